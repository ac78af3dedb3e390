"""Running one job in an engine of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from service.worker.engine.engine import Engine
from service.worker.engine.learning import Learned

T = TypeVar("T")


def in_engine(work: Callable[[], T]) -> T:
    """What `work` gives as the only member of an engine; raises what it raises."""
    engine = Engine(Learned())
    member = engine.join(work)
    while len(engine):
        engine.tick()
    if member.error is not None:
        raise member.error
    result: T = member.result
    return result
