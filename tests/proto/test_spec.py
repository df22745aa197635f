"""The pages of proto/ against the code: what prose says twice is compared, so that it stays true."""

from __future__ import annotations

import re

import pytest

from hasyncd.core.election import TRANSITIONS, Event
from hasyncd.core.timers import GARP_TRAIN_NS
from hasyncd.core.types import MILLISECOND_NS, Role
from hasyncd.core.wire import RECORD_BYTES_MAX, RECORD_BYTES_MIN
from tests.proto.messages_json import TYPES
from tests.proto.vector_files import FOLDER, load

PROTO = FOLDER.parent
VECTORS = load()
DECODED = {
    "oversized", "malformed", "non_canonical", "unknown_type", "unknown_protocol", "bad_field", "count_mismatch",
    "unauthenticated",
}  # fmt: skip
"""Names that bytes alone can earn; the others need to know what came before."""
OF_THE_MOMENT = {
    "wrong_generation", "sequence_gap", "unexpected_frame", "own_node", "replayed", "full_sync_mismatch", "drift",
    "no_memory", "stalled",
}  # fmt: skip


def page(name: str) -> str:
    return (PROTO / name).read_text()


def section(name: str, number: int) -> str:
    return re.split(r"^## ", page(name), flags=re.M)[number].partition("\n")[2]


def table(text: str) -> list[list[str]]:
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-| ")]


def test_the_transition_table_of_the_page_is_the_one_of_the_code() -> None:
    written = set()
    for role, event, target, effects in table(section("pair.md", 3))[1:]:
        roles = list(Role) if role == "any" else [Role(role)]
        solo = {"§4, solo": True, "§4c, §7b, then §4, solo": True, "§4, paired": False}.get(effects)
        written |= {(r, Event(event), Role(target), solo) for r in roles}
    coded = {(role, event, out.role, out.solo) for (role, event), out in TRANSITIONS.items()}
    assert written == coded


def test_the_garp_train_of_the_page_is_the_one_of_the_code() -> None:
    row = next(row for row in table(section("pair.md", 2)) if row[0] == "garp train")
    assert row[1] == "0, 50, 200 ms, 1 s, 5 s"
    assert [at // MILLISECOND_NS for at in GARP_TRAIN_NS] == [50, 200, 1000, 5000]


@pytest.mark.parametrize("name", TYPES)
def test_every_message_has_an_accepted_and_a_rejected_vector(name: str) -> None:
    prefix = name.lower()
    mine = [vector for vector in VECTORS if vector.name.startswith(prefix)]
    assert any(v.expect == "accepted" and v.value["type"] == name for v in mine if v.value)  # type: ignore[index,call-overload]
    assert any(vector.expect.startswith("rejected") for vector in mine)


def test_every_frame_type_of_the_page_has_a_message() -> None:
    assert {row[0] for row in table(section("sync.md", 4).partition("### ")[0])[1:]} == TYPES.keys() - {
        "HEARTBEAT"
    }


def test_the_bounds_of_a_record_are_the_ones_of_the_page() -> None:
    sizes = [int(row[2]) for row in table(section("sync.md", 3)) if len(row) == 3 and row[2].isdigit()]
    assert (min(sizes), max(sizes)) == (RECORD_BYTES_MIN, RECORD_BYTES_MAX)


def rejections_of_the_page() -> tuple[set[str], set[str]]:
    messages, _, records = section("sync.md", 9).partition("S9.")[0].partition("Records:")
    names = re.compile(r"`([a-z]+_?[a-z_]*)`")
    fields = {"count"}  # named in an explanation
    return set(names.findall(messages)) - fields, set(names.findall(records))


def test_every_rejection_of_the_page_has_a_vector_or_a_moment() -> None:
    messages, records = rejections_of_the_page()
    assert messages == DECODED | OF_THE_MOMENT
    earned = {v.expect.removeprefix("rejected ") for v in VECTORS if v.expect != "accepted"}
    assert earned == DECODED | records


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_vector_names_its_file_and_a_section_that_exists(vector: object) -> None:
    name, spec = vector.name, vector.spec  # type: ignore[attr-defined]
    assert (FOLDER / f"{name}.txt").exists()
    file, _, anchor = spec.partition("#")
    headings = re.findall(r"^##+ (.+)$", page(file), flags=re.M)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
