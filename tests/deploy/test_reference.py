"""The references in deploy/ are what the program says of itself."""

from __future__ import annotations

import re
import subprocess
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from deploy.reference.__main__ import files
from deploy.reference.commands import FILES as NAMED_FILES
from deploy.reference.configuration import table_of, unit_of
from hasyncd import cli
from hasyncd.config import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_reference_is_stale(path: Path) -> None:
    """`python3 -m deploy.reference` writes them anew."""
    assert path.read_text() == files()[path]


def all_models() -> dict[str, type[BaseModel]]:
    """Every table of the configuration by its path."""
    found: dict[str, type[BaseModel]] = {}

    def visit(path: str, model: type[BaseModel]) -> None:
        found[path] = model
        for name, field in model.model_fields.items():
            inner, _ = table_of(field)
            if inner is not None:
                visit(f"{path}.{name}".lstrip("."), inner)

    visit("", Settings)
    return found


def test_every_number_that_counts_something_has_a_unit() -> None:
    """Those that are mere ranks, names or versions are listed here."""
    without = {"node.priority", "node.nice", "peer.protocol", "service.backends.id", "service.load_limit"}
    numbers = {
        f"{path}.{name}"
        for path, model in all_models().items()
        for name, field in model.model_fields.items()
        if {int, float} & ({field.annotation} | set(typing.get_args(field.annotation)))
        and not unit_of(name, field)
    }
    assert {number for number in numbers if not number.startswith("service.")} <= without


def test_every_verb_and_every_exit_code_is_documented() -> None:
    page, manual = (DEPLOY / "commands.md").read_text(), (DEPLOY / "share/hasyncd.8").read_text()
    for verb in cli.VERBS:
        assert f"## `hasyncd {verb}`" in page
        assert re.search(rf"^\.SS hasyncd {verb}\b", manual.replace("\\-", "-"), re.MULTILINE)
    for code in cli.EXIT_CODES:
        assert f"| {code} |" in page
        assert f".B {code}\n" in manual


def test_every_exit_code_that_a_verb_gives_is_one_of_those() -> None:
    """Read from the sources of the verbs: a number that a verb returns by name of nothing must be known."""
    sources = Path(cli.__file__).parent.glob("*.py")
    returned = {int(code) for file in sources for code in re.findall(r"\breturn (\d+)\b", file.read_text())}
    assert returned <= cli.EXIT_CODES.keys()
    assert {0, 1, 2} <= returned


def test_the_manual_page_is_good_roff() -> None:
    """groff finds nothing to warn of."""
    page = DEPLOY / "share/hasyncd.8"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", "-K", "utf8", str(page)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert all(path in page.read_text() for path, _ in NAMED_FILES)
