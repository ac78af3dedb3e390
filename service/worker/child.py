"""The GPU child: reads the agent's frames, computes one attempt at a time, exports the one before meanwhile.

Started by the agent as `python -m service.worker.child FD`. Ends at once when its end of the pair closes.
Three threads: the main one reads, so that a halt is heard while the second computes and the third exports.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import msgspec

from service.tasks.catalog import MODELS, TASKS
from service.worker import devices, models
from service.worker.failures import Failure, describe
from service.worker.frames import (
    Begin,
    Broke,
    ChildEnd,
    Finished,
    Freed,
    Halt,
    Halted,
    Setup,
    Unfit,
    Up,
    Watch,
)
from service.worker.model_cache import ModelCache
from service.worker.parent import die_with_parent
from service.worker.run import Cancelled, Made, Run

POISONED = 70  # exit code after a device error that only a new process can clear

logger = logging.getLogger("safelight.child")


def main() -> None:
    """Serve the agent at the file descriptor named by the first argument until it is gone."""
    # a Ctrl-C or a service manager's SIGTERM goes to the whole group; the agent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = ChildEnd(int(sys.argv[1]))
    setup = end.receive()
    if setup is None:
        os._exit(0)
    assert isinstance(setup, Setup), f"the first frame is {type(setup).__name__}; expected Setup"
    die_with_parent(signal.SIGKILL, setup.parent)
    try:
        device = _find_device(setup)
    except devices.NoSuchDevice as error:
        end.send(Unfit(why=str(error)))
        os._exit(0)
    end.send(Up(label=device.label, device=device.info, versions=models.versions()))
    Child(end, setup, device.label).serve()
    os._exit(0)  # threads may be deep inside a library; nothing here needs an orderly end


def _find_device(setup: Setup) -> devices.Device:
    needs_torch = any(models.is_real(name) for name in setup.models)
    return devices.find(setup.device, needs_torch, models.versions().get("torch", ""))


class Child:
    """The attempts that this process has, and the threads that work on them."""

    def __init__(self, end: ChildEnd, setup: Setup, device: str) -> None:
        self._end = end
        self._device = device
        self._spool = Path(setup.spool)
        self._is_watched = False
        self._runs: dict[tuple[str, int], Run] = {}
        self._models = ModelCache(device, setup.threads, end.send)
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="computing")
        self._exporting = ThreadPoolExecutor(1, thread_name_prefix="exporting")
        if setup.preload is not None:
            self._models.warm(MODELS[setup.preload])

    def serve(self) -> None:
        """Act on frames until the agent is gone."""
        while (frame := self._end.receive()) is not None:
            match frame:
                case Begin():
                    self._begin(frame)
                case Halt(job=job, attempt=attempt):
                    if (run := self._runs.get((job, attempt))) is not None:
                        run.halt()
                case Watch(wanted=wanted):
                    self._is_watched = wanted
                case Setup():
                    raise AssertionError("a second Setup")

    def _begin(self, frame: Begin) -> None:
        try:
            model = MODELS[frame.model]
            params = msgspec.convert(frame.params, TASKS[frame.task])
        except (KeyError, msgspec.ValidationError) as error:
            message = f"this worker cannot read the job ({error}); give service and workers the same version"
            self._end.send(Broke(job=frame.job, attempt=frame.attempt, kind="invalid-input", message=message))
            return
        run = Run(
            job=frame.job,
            attempt=frame.attempt,
            model=model,
            params=params,
            folder=self._spool,
            send=self._end.send,
            is_watched=lambda: self._is_watched,
            inputs={field: Path(path) for field, path in frame.inputs.items()},
        )
        self._runs[(run.job, run.attempt)] = run
        self._computing.submit(self._compute, run)

    def _compute(self, run: Run) -> None:
        """Second thread: from the model to what is to be exported."""
        failure = None
        try:
            made = self._made(run)
        except Cancelled:
            self._end.send(Halted(job=run.job, attempt=run.attempt, step=run.step))
        except Exception as error:
            failure = _described(error, run)
        else:
            self._end.send(Freed(job=run.job, attempt=run.attempt))
            self._exporting.submit(self._export, run, made)
            return
        # outside the except block: the exception's frames hold the tensors that memory is wanted from
        self._runs.pop((run.job, run.attempt), None)
        if failure is not None:
            self._failed(run, failure)

    def _made(self, run: Run) -> Made:
        run.check()
        model = self._models.get(run)  # first: it checks for missing libraries, importing the pipeline does not
        made: Made = import_module(run.params.RUNNER).compute(run, model)
        run.leave()
        return made

    def _export(self, run: Run, made: Made) -> None:
        """Third thread: files on disk, and the word that the attempt is done."""
        try:
            if made.export is not None:
                run.enter("exporting")
            files = made.export() if made.export is not None else ()
            run.leave()
        except Exception as error:
            self._failed(run, _described(error, run))
        else:
            self._end.send(Finished(job=run.job, attempt=run.attempt, files=files, facts=self._facts(run, made)))
        self._runs.pop((run.job, run.attempt), None)

    def _facts(self, run: Run, made: Made) -> dict[str, object]:
        return {
            **made.facts,
            "device": self._device,
            "versions": models.versions(),
            "timings": run.timings(),
            "batch": {"size": 1, "index": 0},
        }

    def _failed(self, run: Run, failure: Failure) -> None:
        self._end.send(
            Broke(
                job=run.job,
                attempt=run.attempt,
                kind=failure.kind,
                message=failure.message,
                detail=failure.detail,
            )
        )
        if failure.is_poisonous:
            os._exit(POISONED)
        if failure.kind == "out-of-memory" and run.model.source is not None:
            import_module(run.params.RUNNER).free_memory()


def _described(error: Exception, run: Run) -> Failure:
    """The failure for the client; the whole traceback goes to this machine's log only."""
    logger.error("job %s failed\n%s", run.job, "".join(traceback.format_exception(error)))
    return describe(error, run.phase, run.params)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="safelight worker child: %(message)s")
    main()
