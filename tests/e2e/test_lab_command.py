"""`hasyncd lab`: up, a look inside, down."""

from __future__ import annotations

import pytest

from hasyncd.lab.lock import read_kept_lab
from tests.e2e.lab import hasyncd, leftovers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASK = "import urllib.request as u; print(u.urlopen('http://{}/', timeout=20).read().decode())"


def test_lab_stands_until_it_is_taken_down() -> None:
    up = hasyncd("lab", "up")
    assert up.returncode == 0, up.stderr
    lab = read_kept_lab()
    assert lab is not None
    try:
        assert "hasyncd status --node gw-a" in up.stdout
        assert hasyncd("status", "--node", "gw-a", "--json").returncode == 0
        balanced = hasyncd("lab", "shell", "client", "python3", "-c", ASK.format("203.0.113.5"))
        assert " saw 203.0.113.10" in balanced.stdout, balanced.stderr
        translated = hasyncd("lab", "shell", "host-7", "python3", "-c", ASK.format("203.0.113.50:7000"))
        assert "server 50 saw 203.0.113.5:" in translated.stdout, translated.stderr
        for words in (("lab", "up"), ("drill",)):
            refused = hasyncd(*words)
            assert refused.returncode == 2
            assert "hasyncd lab down" in refused.stderr
    finally:
        down = hasyncd("lab", "down")
    assert down.returncode == 0, down.stderr
    assert leftovers(lab.lab_id) == []
    assert read_kept_lab() is None
    assert hasyncd("lab", "shell", "client", "true").returncode == 2
    assert hasyncd("lab", "down").returncode == 0, "nothing to remove is no error"
