"""The task pretend: goes through the motions and makes nothing. Imports no library."""

from __future__ import annotations

import os
import signal

from service.tasks.pretend import Pretend
from service.worker.run import Made, Run


class ToldToFail(Exception):
    """The params asked for a failure."""


def compute(run: Run, model: object) -> Made:
    """Wait out the steps, then end as the params say. Raises ToldToFail or Cancelled; may end the process."""
    params = run.params
    assert isinstance(params, Pretend), f"task {Pretend.TASK} got {type(params).__name__}"
    run.enter("denoising")
    run.stepped(0, params.steps)
    for step in range(1, params.steps + 1):
        run.sleep(params.step_s)
        run.stepped(step, params.steps)
    if params.outcome == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.outcome == "failed":
        raise ToldToFail("outcome failed was asked for")
    return Made(facts={})
