"""Lists that others keep: every line is judged, and what follows from an address is the same on both nodes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hasyncd.balance.membership import Member
from hasyncd.balance.sources import BadList, id_of, members_at, read_list
from hasyncd.config_values import Endpoint

A = Endpoint(IPv4Address("10.0.1.21"), 8080)
A6 = Endpoint(IPv6Address("2001:db8:1::21"), 8080)


def test_a_backend_a_line() -> None:
    text = "# ours\n\n21 10.0.1.21:8080\n 22 10.0.1.22:80\t3 # large\n"
    assert read_list(text, 4) == [Member(21, A, 1), Member(22, Endpoint(IPv4Address("10.0.1.22"), 80), 3)]
    assert read_list("5 [2001:db8:1::21]:8080", 6) == [Member(5, A6, 1)]
    assert read_list("", 4) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("21", "line 1: ID ADDRESS:PORT"),
        ("\n21 10.0.1.21:8080 1 2", "line 2: ID ADDRESS:PORT"),
        ("0 10.0.1.21:8080", "line 1: an id is a number from 1"),
        ("x 10.0.1.21:8080", "line 1: an id is a number"),
        ("21 10.0.1.21", "line 1: must be address:port"),
        ("21 10.0.1.21:8080 0", "line 1: a weight is a number from 1 to 256"),
        ("21 10.0.1.21:8080 257", "line 1: a weight is a number"),
        ("21 10.0.1.21:80\n21 10.0.1.22:80", "line 2: id 21 is listed twice"),
        ("21 10.0.1.21:80\n22 10.0.1.21:80", "line 2: 10.0.1.21:80 is backend 21 already"),
        ("21 [2001:db8::1]:80", "line 1: [2001:db8::1]:80 is IPv6, the VIP is IPv4"),
        ("\n".join(f"{n} 10.0.{n >> 8}.{n & 255}:80" for n in range(1, 1026)), "1025 backends"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadList) as bad:
        read_list(text, 4)
    assert str(bad.value).startswith(said)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        read_list(text, 4)
    except BadList:
        pass


@given(st.sets(st.ip_addresses(v=4), min_size=1, max_size=50) | st.sets(st.ip_addresses(v=6), min_size=1))
def test_addresses_give_the_same_ids_whatever_their_order(addresses: set[IPv4Address | IPv6Address]) -> None:
    listed = sorted(addresses, key=str)
    try:
        there = members_at(listed, 80)
    except BadList:  # 0.0.0.0 beside 0.0.0.1, or one in 2**32
        return
    assert there == members_at(reversed(listed), 80)
    assert all(0 < member.id <= 0xFFFF_FFFF for member in there)


def test_no_address_is_no_answer() -> None:
    with pytest.raises(BadList, match="no address"):
        members_at([], 80)
    assert id_of(ip_address("10.0.1.21")) == int(IPv4Address("10.0.1.21"))
