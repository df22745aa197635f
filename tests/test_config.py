"""hasyncd.config: good files give settings, bad ones every error with its key."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest
from pydantic import ValidationError

from hasyncd.config import ConfigError, load
from hasyncd.config_values import Endpoint, PortRange

HERE = Path(__file__).parent
DEPLOY = HERE.parent / "deploy"
GOOD = (DEPLOY / "hasyncd.example.toml").read_text()

MINIMAL = """
[node]
name = "n1"
[interfaces]
inside = "eth1"
outside = "eth0"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[peer]
listen = "169.254.10.1:7077"
address = "169.254.10.2:7077"
insecure = true
"""

SERVICE = """
[[service]]
name = "other"
vip = "203.0.113.5:81"
protocol = "tcp"
backends = [{ id = 1, address = "10.0.1.21:8080" }]
"""


DUAL_STACK = """
[[vip]]
address = "2001:db8:2::5/64"
interface = "outside"
[[service]]
name = "web6"
vip = "[2001:db8:2::5]:80"
protocol = "tcp"
backends = [{ id = 1, address = "[fd00:1::21]:8080" }]
[[pass]]
source = ["2001:db8:1::/64"]
"""


def errors_of(tmp_path: Path, text: str) -> list[str]:
    """The errors of a text as a file, without the file's name."""
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    prefix = f"{path}: "
    assert all(error.startswith(prefix) for error in raised.value.errors)
    return [error.removeprefix(prefix) for error in raised.value.errors]


def changed(old: str, new: str) -> str:
    """The good example with one thing changed."""
    assert GOOD.count(old) >= 1, f"the example no longer says {old!r}"
    return GOOD.replace(old, new, 1)


def test_the_shipped_examples_are_the_two_nodes_of_one_pair() -> None:
    a, b = load(DEPLOY / "hasyncd.example.toml"), load(DEPLOY / "hasyncd.example-b.toml")
    assert (a.node.name, b.node.name) == ("gw-a", "gw-b")
    assert (a.peer.listen, a.peer.address) == (b.peer.address, b.peer.listen)
    assert a.config_hash() == b.config_hash()


def test_what_the_example_says_is_what_the_settings_hold() -> None:
    settings = load(DEPLOY / "hasyncd.example.toml")
    assert settings.vip[1].address == IPv4Interface("203.0.113.5/24")
    assert settings.nat[0].source == (IPv4Network("10.0.1.0/24"),)
    assert settings.nat[0].public == (IPv4Address("203.0.113.5"),)
    assert settings.nat[0].ports == PortRange(1024, 65535)
    service = settings.service[0]
    assert service.vip == Endpoint(IPv4Address("203.0.113.5"), 80)
    assert [(b.id, str(b.address), b.weight) for b in service.backends] == [
        (1, "10.0.1.21:8080", 1),
        (2, "10.0.1.22:8080", 1),
    ]
    assert service.health is not None
    assert service.health.fall == 3


def test_defaults_stand_for_what_is_not_said(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL)
    settings = load(path)
    assert settings.control.socket == Path("/run/hasyncd/n1.sock")
    assert settings.node.state_dir == Path("/var/lib/hasyncd")
    assert (settings.node.priority, settings.node.engine, settings.node.capacity) == (100, "auto", 1_048_576)
    assert (settings.peer.heartbeat_ms, settings.peer.dead_after_ms) == (50, 150)
    assert (settings.sync.enabled, settings.sync.commit, settings.sync.commit_timeout_ms) == (True, "ack", 50)
    assert (settings.nat, settings.service, settings.metrics) == ((), (), None)


def test_ipv6_stands_beside_ipv4(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL + DUAL_STACK)
    settings = load(path)
    assert settings.vip[1].address == IPv6Interface("2001:db8:2::5/64")
    (service,) = settings.service
    assert service.vip == Endpoint(IPv6Address("2001:db8:2::5"), 80)
    assert str(service.backends[0].address) == "[fd00:1::21]:8080"
    assert service.allow == (IPv6Network("::/0"),), "anybody of the VIP's family"
    (rule,) = settings.passes
    assert (rule.source, rule.destination, rule.inbound) == ((IPv6Network("2001:db8:1::/64"),), (), False)


def test_the_commented_lines_of_the_example_are_good_ones(tmp_path: Path) -> None:
    """All but those that contradict what stands there: taken in one after the other."""
    begin = GOOD.index("# [[vip]]")
    block = GOOD[begin : GOOD.index("\n\n", begin)]
    path = tmp_path / "node.toml"
    path.write_text(GOOD.replace(block, "\n".join(line.removeprefix("# ") for line in block.splitlines())))
    assert len(load(path).vip) == 4


def test_the_sync_link_may_be_ipv6(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL.replace("169.254.10.1", "[fd00::1]").replace("169.254.10.2", "[fd00::2]"))
    assert load(path).peer.address == Endpoint(IPv6Address("fd00::2"), 7077)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(DEPLOY / "hasyncd.example.toml")
    with pytest.raises(ValidationError):
        settings.node.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("priority = 200", "priority = 7", True),
        ('outside = "eth0"', 'outside = "wan"', True),
        ("heartbeat_ms = 50", "heartbeat_ms = 20", True),
        ("capacity = 1048576", "capacity = 65536", True),  # judged by itself: REFUSE `capacity`
        (", weight = 1 }", " }", True),  # its default
        ('commit = "ack"', 'commit = "emit"', False),
        ('ports = "1024-65535"', 'ports = "1024-65535"\ncommit = "emit"', False),
        ('protocol = "tcp"', 'protocol = "tcp"\ncommit = "emit"', False),
        ("203.0.113.5/24", "203.0.113.5/25", False),
        ('ports = "1024-65535"', 'ports = "2048-65535"', False),
        ("weight = 1 }", "weight = 2 }", False),
        ("[control]", '[[pass]]\nsource = ["2001:db8:1::/64"]\n[control]', False),
    ],
)
def test_the_hash_covers_what_both_nodes_must_share(tmp_path: Path, old: str, new: str, same: bool) -> None:
    path = tmp_path / "node.toml"
    path.write_text(changed(old, new))
    assert (load(path).config_hash() == load(DEPLOY / "hasyncd.example.toml").config_hash()) is same
    assert len(load(path).config_hash()) == 8


def one_change_cases() -> list[tuple[str, str, str]]:
    lines = (HERE / "bad_config.txt").read_text().splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    cases = []
    for change, error in zip(lines[::2], lines[1::2], strict=True):
        old, _, new = change.partition(" ->")
        cases.append((old, new.strip().replace("\\n", "\n"), error.strip()))
    return cases


ONE_CHANGE = one_change_cases()


@pytest.mark.parametrize(("old", "new", "error"), ONE_CHANGE, ids=[case[2][:48] for case in ONE_CHANGE])
def test_one_wrong_thing_gives_its_one_error(tmp_path: Path, old: str, new: str, error: str) -> None:
    found = errors_of(tmp_path, changed(old, new))
    assert error in found
    # A key that is misspelt is missing, too; nothing else may be said.
    assert [other for other in found if other != error and not other.endswith("is missing")] == []


def test_a_key_log_without_tls_is_an_error(tmp_path: Path) -> None:
    logging = MINIMAL.replace("insecure = true", 'insecure = true\nkey_log = "/tmp/secrets"')
    assert errors_of(tmp_path, logging) == [
        "peer.key_log: logs the secrets of TLS, and without peer.keys there is no TLS"
    ]


def test_two_vips_alike_are_an_error(tmp_path: Path) -> None:
    twice = GOOD.replace("[peer]", '[[vip]]\naddress = "203.0.113.5/24"\ninterface = "outside"\n[peer]', 1)
    assert errors_of(tmp_path, twice) == ["vip[2].address: 203.0.113.5 is vip[1] already"]


def test_overlapping_services_are_an_error(tmp_path: Path) -> None:
    found = errors_of(tmp_path, GOOD + SERVICE.replace(":81", ":80"))
    assert found == ["service[1].vip: 203.0.113.5:80/tcp is service[0] already"]


def test_one_front_may_serve_two_protocols(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(GOOD + SERVICE.replace(":81", ":80").replace("tcp", "udp"))
    assert [service.protocol for service in load(path).service] == ["tcp", "udp"]


def test_arrays_have_the_limits_of_the_data_path(tmp_path: Path) -> None:
    many = ", ".join(f'"10.1.{n}.0/24"' for n in range(65))
    found = errors_of(tmp_path, changed('source = ["10.0.1.0/24"]', f"source = [{many}]"))
    assert found == ["nat[0].source: must not have more than 64 elements"]


def test_two_services_of_one_name_are_an_error(tmp_path: Path) -> None:
    found = errors_of(tmp_path, GOOD + SERVICE.replace('"other"', '"web"'))
    assert found == ["service[1].name: 'web' is service[0] already"]


def test_every_error_is_named_not_only_the_first(tmp_path: Path) -> None:
    text = changed("priority = 200", "priority = 1.5").replace('commit = "ack"', 'commit = "x"')
    text = text.replace("id = 2", "id = 1").replace("dead_after_ms = 150", "dead_after_ms = 100")
    assert [error.split(":")[0] for error in errors_of(tmp_path, text)] == [
        "node.priority",
        "sync.commit",
        "peer.dead_after_ms",
        "service[0].backends[1].id",
    ]


def test_an_empty_file_lacks_every_required_section(tmp_path: Path) -> None:
    assert errors_of(tmp_path, "") == [
        "node: is missing",
        "interfaces: is missing",
        "vip: is missing: at least one [[vip]] is needed",
        "peer: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("node = 3", "node: must be a table, not 3"),
        ("vip = 3", "vip: must be an array of tables ([[vip]]), not 3"),
        ("vip = [3]", "vip[0]: must be a table, not 3"),
        ("control = 3", "control: must be a table, not 3"),
        ("service = { name = 1 }", "service: must be an array of tables ([[service]]), not a table"),
    ],
)
def test_sections_of_the_wrong_kind_are_errors(tmp_path: Path, text: str, error: str) -> None:
    assert error in errors_of(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a = \n", "line 1, column 5: invalid value"),
        (b"x = 1\n[node\n", "line 2, column 6: expected ']' at the end of a table declaration"),
        (b"a = 1\na = 2\n", "line 2, column 6: cannot overwrite a value"),
        (b"a = '\xff'", "is not UTF-8 text (byte 5)"),
        (b"a = " + b"[" * 5000, "TOML: nested too deeply"),
        (b"#" * 1_048_577, "is larger than 1048576 bytes"),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert raised.value.errors == [f"{path}: {error}"]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as raised:
            load(path)
        assert raised.value.errors == [f"{path}: cannot be read: {reason}"]


def test_the_hash_is_the_one_that_the_page_works_out(tmp_path: Path) -> None:
    """proto/sync.md §4.3."""
    page = (HERE.parent / "proto" / "sync.md").read_text()
    example = next(line.split() for line in page.splitlines() if line.startswith("    {"))
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL)
    assert hashlib.sha256(example[0].encode()).hexdigest()[:16] == example[2]
    assert load(path).config_hash().hex() == example[2]


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:9107", "[::1]:9107", "0.0.0.0:9107", "[::]:9107", "10.0.1.2:9107"]
)
def test_metrics_are_answered_at_any_address_of_the_machine(tmp_path: Path, listen: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'{GOOD}\n[metrics]\nlisten = "{listen}"\n')
    metrics = load(file).metrics
    assert metrics is not None
    assert str(metrics.listen) == listen
