"""A background task ends only when it is cancelled: one that died of a bug is told, and harms nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def tell_of_death(message: str) -> Callable[[asyncio.Task[None]], None]:
    """For `add_done_callback`: what is said of a task that ended by an exception."""

    def tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": message, "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    return tell
