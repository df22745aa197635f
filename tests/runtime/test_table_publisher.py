"""Tables are built beside the event loop, one of a service at a time, the newest only."""

from __future__ import annotations

import asyncio

from hasyncd.balance.services import Publication
from hasyncd.balance.tables import BackendTable
from hasyncd.runtime.table_publisher import TablePublisher

BACKENDS = [(server_id, 1, 80, 1, 0) for server_id in range(1, 301)]


def wanted(generation: int, service: int = 0, algorithm: str = "ecmp") -> Publication:
    return Publication(service, BACKENDS[: 200 + generation % 100], generation, algorithm)


async def test_many_changes_cost_few_tables_and_the_last_one_counts() -> None:
    published: list[tuple[int, int]] = []
    publisher = TablePublisher(lambda what, table: published.append((what.generation, len(table.shares()))))
    for generation in range(1, 101):
        publisher.want(wanted(generation))
        await asyncio.sleep(0)
    await publisher.settled()
    generations = [generation for generation, _ in published]
    assert generations == sorted(set(generations))
    assert published[-1] == (100, 200)
    assert len(published) < 20, "a hundred changes at once are not a hundred tables"


async def test_the_loop_goes_on_while_a_table_is_built() -> None:
    done = asyncio.Event()
    publisher = TablePublisher(lambda what, table: done.set())
    publisher.want(wanted(1))
    turns = 0
    async with asyncio.timeout(60):
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1
    assert turns > 20


async def test_services_do_not_wait_for_each_other_and_a_bad_table_harms_no_later_one() -> None:
    published: list[tuple[int, int]] = []
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["message"]))
    publisher = TablePublisher(lambda what, table: published.append((what.service, what.generation)))
    publisher.want(wanted(1, 0, "no such algorithm"))
    publisher.want(wanted(1, 1, "maglev"))
    await publisher.settled()
    publisher.want(wanted(2, 0, "maglev"))
    await publisher.settled()
    assert sorted(published) == [(0, 2), (1, 1)]
    assert errors == ["backend table 0 was not published"]


async def test_nothing_is_published_after_a_stop() -> None:
    published: list[BackendTable] = []
    publisher = TablePublisher(lambda what, table: published.append(table))
    publisher.want(wanted(1))
    await asyncio.sleep(0)
    await publisher.stop()
    await publisher.stop()
    assert not published
    await publisher.settled()
