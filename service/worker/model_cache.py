"""The warm models of the child. Loading has a thread of its own, so that a cancelled job need not wait for it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

from service.tasks.catalog import Model
from service.tasks.registry import TASKS
from service.worker.engine.engine import current
from service.worker.frames import FromChild, Loaded, Loading
from service.worker.models import ModelMissing, check
from service.worker.run import Run

QUIET_AND_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # reproducible matrix products; read when CUDA starts
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # mixed sizes fragment the cache without it
}

logger = logging.getLogger("safelight.child")


class ModelCache:
    """Models by id, each loaded once and kept."""

    def __init__(self, device: str, threads: int, send: Callable[[FromChild], None]) -> None:
        """`threads` is the number torch computes with on the CPU, 0 for what suits this machine."""
        self._device = device
        self._threads = threads or _spare_cores()
        self._send = send
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._models: dict[str, Future[Any]] = {}

    def warm(self, model: Model) -> Future[Any]:
        """Begin to load `model` unless it is loaded or loading."""
        future = self._models.get(model.id)
        if future is None or (future.done() and future.exception() is not None):
            future = self._loader.submit(self._load, model)
            self._models[model.id] = future
        return future

    def get(self, run: Run) -> Any:
        """The warm model of `run`, which enters the phase loading_model when it has to wait; others compute then.

        Raises ModelMissing, what loading raised, or Cancelled; loading then goes on for the next job.
        """
        if run.model.source is None:
            return None
        future = self.warm(run.model)
        if not future.done():
            run.enter("loading_model")
        return current().wait(future)

    def _load(self, model: Model) -> Any:
        self._send(Loading(model=model.id))
        started_at = time.monotonic()
        why_not = None
        try:
            check(model)
            for name, value in QUIET_AND_OFFLINE.items():
                os.environ.setdefault(name, value)
            os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import: it is read only then
            pipeline = import_module(TASKS[model.tasks[0]].RUNNER)
            return pipeline.load(model, self._device, self._threads)
        except Exception as error:
            why_not = str(error) if isinstance(error, ModelMissing) else type(error).__name__
            raise
        finally:
            seconds = time.monotonic() - started_at
            self._send(Loaded(model=model.id, seconds=seconds, why_not=why_not))


def _spare_cores() -> int:
    """What OMP_NUM_THREADS says, else all cores this process may use but one.

    Exporting, the agent and a service on the same machine need that one: with every core taken, torch's threads
    spin while they wait for each other, and a picture of the embedded model took three times as long.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)
