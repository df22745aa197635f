"""What a drill requires besides its flows: a requirement that does not hold fails it, with its sentence."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

from hasyncd.lab.crew import Load
from hasyncd.lab.report import Silent
from hasyncd.lab.stage import Stage


def stage() -> Stage:
    """A stage whose lab nobody enters."""
    nowhere = cast(Any, None)
    return Stage(nowhere, nowhere, nowhere, Load(), random.Random(1), Silent(), 0)


def test_what_holds_is_counted_and_says_nothing() -> None:
    made = stage()
    assert made.require(True, "the sky fell")
    assert (made.checked, made.failures) == (1, [])


def test_what_does_not_hold_is_said_once() -> None:
    made = stage()
    for _ in range(2):
        assert not made.require(False, "the sky fell")
    assert (made.checked, made.failures) == (2, ["the sky fell"])


def test_what_comes_soon_holds_and_what_never_comes_does_not() -> None:
    made = stage()
    answers = iter([False, False, True])

    async def at_last() -> bool:
        return next(answers)

    async def never() -> bool:
        return False

    assert asyncio.run(made.require_soon(at_last, "it did not come"))
    assert not asyncio.run(made.require_soon(never, "it did not come", 0.1))
    assert made.failures == ["it did not come (waited 0.1 s)"]
