"""The log of a simulated service: in memory, with the handler's way of asking. It survives the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from events.envelope import Record
from service.commands import Command
from service.decisions.decide import decide
from service.group_commit import Answer
from service.refusals import Refusal
from tests.history import History
from tests.simulation.clock import clock
from tests.simulation.gpu import CATALOG

Listener = Callable[[Sequence[Record]], None]


class Ledger(History):
    """What Dispatcher and Planner need of service/handle.py. Kept at once, answered in the next turn."""

    def __init__(self) -> None:
        super().__init__(CATALOG)
        self.log = self
        self.listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Have `listener` called with every batch of records."""
        self.listeners.append(listener)

    def ask(self, command: Command, *, actor: str = "tester", cause: str = "test") -> Answer:  # type: ignore[override]
        """The records that the command caused, or its refusal, as a future."""
        self.at_us = clock().utc_us()
        answer: Answer = asyncio.get_running_loop().create_future()
        try:
            records = self.append(decide(self, command, self.catalog))  # type: ignore[arg-type]
        except Refusal as refusal:
            answer.set_exception(refusal)
            answer.exception()  # looked at: nobody has to
            return answer
        answer.set_result(records)
        asyncio.get_running_loop().call_soon(self._publish, records)
        return answer

    def _publish(self, records: Sequence[Record]) -> None:
        for listener in self.listeners:
            listener(records)
