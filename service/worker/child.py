"""The GPU child: reads the agent's frames, computes the attempts in its engine, exports what has been computed.

Started by the agent as `python -m service.worker.child FD`. Ends at once when its end of the pair closes.
Three threads: the main one reads, so that a halt is heard while the second computes and the third exports.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue

import msgspec

from service.tasks.catalog import Catalog
from service.tasks.registry import TASKS
from service.worker import devices, failures, models
from service.worker.engine.engine import Engine, Member
from service.worker.engine.learning import Learned
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
    Worth,
)
from service.worker.model_cache import ModelCache
from service.worker.parent import die_with_parent
from service.worker.run import Cancelled, Made, Run

MOST_BESIDE = 16  # jobs named in a completion's facts
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
    needs_torch = any(models.is_real(model) for model in setup.models)
    return devices.find(setup.device, needs_torch, models.versions().get("torch", ""))


class Child:
    """The attempts that this process has, and the threads that work on them."""

    def __init__(self, end: ChildEnd, setup: Setup, device: str) -> None:
        self._end = end
        self._device = device
        self._spool = Path(setup.spool)
        self._is_watched = False
        self._runs: dict[tuple[str, int], Run] = {}
        self._catalog = Catalog(setup.models)
        self._models = ModelCache(device, setup.threads, end.send)
        self._learned = Learned()
        self._begun: SimpleQueue[tuple[Run, int]] = SimpleQueue()  # with its priority; for the second thread
        self._moved = threading.Event()  # something that the second thread may be waiting for has happened
        threading.Thread(target=self._compute, name="computing", daemon=True).start()
        self._exporting = ThreadPoolExecutor(1, thread_name_prefix="exporting")
        if setup.preload is not None:
            self._models.warm(self._catalog[setup.preload])

    def serve(self) -> None:
        """Act on frames until the agent is gone."""
        while (frame := self._end.receive()) is not None:
            match frame:
                case Begin():
                    self._begin(frame)
                case Halt(job=job, attempt=attempt):
                    if (run := self._runs.get((job, attempt))) is not None:
                        run.halt()
                        self._moved.set()
                case Watch(wanted=wanted):
                    self._is_watched = wanted
                case Setup():
                    raise AssertionError("a second Setup")

    def _begin(self, frame: Begin) -> None:
        try:
            model = self._catalog[frame.model]
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
            tape_path=Path(frame.tape) if frame.tape else None,
            about=(frame.task, frame.model, frame.params, models.versions(), self._device),
        )
        self._runs[(run.job, run.attempt)] = run
        self._begun.put((run, frame.priority))
        self._moved.set()

    def _compute(self) -> None:
        """Second thread: the engine's. Waits only while there is nothing that could be computed."""
        engine = Engine(
            self._learned,
            settle=devices.settle(self._device),
            is_out_of_memory=failures.is_out_of_memory,
            wake=self._moved.set,
        )
        runs: dict[Member, Run] = {}
        worth = 1
        while True:
            self._moved.clear()
            while not self._begun.empty():
                run, priority = self._begun.get()
                runs[engine.join(partial(self._made, run), run.job, priority, run.park)] = run
            for member, run in runs.items():
                if run.is_halted:
                    member.halt_with = Cancelled()
            if engine.is_stuck():
                self._moved.wait()
            for member in engine.tick():
                self._computed(runs.pop(member), member)
            if (now_worth := engine.worth()) != worth:
                worth = now_worth
                self._end.send(Worth(jobs=worth))

    def _made(self, run: Run) -> Made:
        """What the member does that computes the run."""
        run.check()
        model = self._models.get(run)  # first: it checks for missing libraries, importing the pipeline does not
        made: Made = import_module(run.params.RUNNER).compute(run, model)
        run.leave()
        return made

    def _computed(self, run: Run, member: Member) -> None:
        if member.error is None:
            self._end.send(Freed(job=run.job, attempt=run.attempt))
            self._exporting.submit(self._export, run, member)
            return
        error, member.error = member.error, None  # its frames hold the tensors that memory is wanted from
        self._runs.pop((run.job, run.attempt), None)
        if isinstance(error, Cancelled):
            self._end.send(Halted(job=run.job, attempt=run.attempt, step=run.step))
            return
        failure = _described(error, run)
        del error
        self._failed(run, failure)

    def _export(self, run: Run, member: Member) -> None:
        """Third thread: files on disk, and the word that the attempt is done."""
        made: Made = member.result
        try:
            if made.export is not None:
                run.enter("exporting")
            files = made.export() if made.export is not None else ()
            run.leave()
        except Exception as error:
            self._failed(run, _described(error, run))
        else:
            self._end.send(Finished(job=run.job, attempt=run.attempt, files=files, facts=self._facts(run, member)))
        self._runs.pop((run.job, run.attempt), None)

    def _facts(self, run: Run, member: Member) -> dict[str, object]:
        return {
            **member.result.facts,
            "device": self._device,
            "versions": models.versions(),
            "timings": run.timings(),
            "batch": self._batch(run, member),
        }

    def _batch(self, run: Run, member: Member) -> dict[str, object]:
        """How the attempt shared the device: with whom, its share of the seconds, and what sharing has saved."""
        steps = sum(member.shared.values())
        facts: dict[str, object] = {
            "steps": {str(rows): number for rows, number in sorted(member.shared.items())},
            "share_s": round(member.share_s, 4),
            "others_s": round(member.served_s - member.share_s + member.stood_s, 4),
            "beside": sorted(member.beside)[:MOST_BESIDE],
        }
        alone_s = self._learned.alone_s(member.size) if member.size is not None and member.beside else None
        if alone_s is not None:
            facts["saved_s"] = round(steps * alone_s - member.steps_share_s, 4)
        return facts

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
            import_module("service.worker.pipelines.loading").free_memory()  # not above: it imports torch


def _described(error: BaseException, run: Run) -> Failure:
    """The failure for the client; the whole traceback goes to this machine's log only."""
    logger.error("job %s failed\n%s", run.job, "".join(traceback.format_exception(error)))
    return describe(error, run.phase, run.params)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="safelight worker child: %(message)s")
    main()
