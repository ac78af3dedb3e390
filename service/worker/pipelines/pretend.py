"""The task pretend: goes through the motions and makes nothing. Imports no library."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from service.tasks.pretend import Pretend
from service.worker.engine.engine import current
from service.worker.run import Made, Run


class ToldToFail(Exception):
    """The params asked for a failure."""


class Pause:
    """A step: takes the device for some time, and cannot be joined with another."""

    rows = 1
    key = None
    is_step = True

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._seconds = seconds

    def alone(self) -> None:
        """Wait. Raises Cancelled as soon as the run is told to halt."""
        self._run.sleep(self._seconds)

    @staticmethod
    def together(calls: Sequence[Pause]) -> list[None]:
        """Never called: a pause has no key."""
        raise AssertionError(f"{len(calls)} pauses cannot be one")


def compute(run: Run, model: object) -> Made:
    """Wait out the steps, then end as the params say. Raises ToldToFail or Cancelled; may end the process."""
    params = run.params
    assert isinstance(params, Pretend), f"task {Pretend.TASK} got {type(params).__name__}"
    run.enter("denoising")
    run.stepped(0, params.steps)
    for step in range(1, params.steps + 1):
        current().ask(Pause(run, params.step_s))
        run.stepped(step, params.steps)
    if params.outcome == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.outcome == "failed":
        raise ToldToFail("outcome failed was asked for")
    return Made(facts={})
