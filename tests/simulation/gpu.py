"""A fake GPU child: loads, steps and ends as a real one tells it, taking what a true law and noise say."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping

from projections.costs import work_of
from service.tasks.catalog import Catalog, Model
from service.worker import frames
from tests.service.scheduling.fake_gpus import MODELS as FOUR
from tests.service.scheduling.fake_gpus import TASK
from tests.simulation.clock import clock

Law = tuple[float, tuple[float, float, float]]
LAWS: Mapping[str, Law] = {**FOUR, "picture": (10.0, (0.5, 1.049, 0.0)), "video": (20.0, (10.0, 8.392, 0.0))}
"""Model -> seconds of loading, and the true law: s, s per step*MP, s per step*MP^2."""

CATALOG = Catalog(Model(id=name, tasks=(TASK,), title=name, source=None) for name in LAWS)

LOAD_NOISE = 0.1
PROGRESS_S = 1.0  # what a real child tells twenty times a second is told once
Key = tuple[str, int]


class Meter:
    """What the devices did: seconds by (job, attempt)."""

    def __init__(self) -> None:
        self.busy_s: dict[Key, float] = {}

    def add(self, key: Key, seconds: float) -> None:
        """Count seconds of a device."""
        self.busy_s[key] = self.busy_s.get(key, 0.0) + seconds


class Gpu:
    """One child process with its device, the Child of service/worker/desk.py."""

    def __init__(
        self, dice: random.Random, noise: float, keeps: int, meter: Meter, tell: Callable[[frames.FromChild], None]
    ) -> None:
        self._dice = dice
        self._noise = noise
        self._keeps = keeps
        self._meter = meter
        self._tell = tell
        self._warm: list[str] = []  # least recently used first
        self._begun: asyncio.Queue[frames.Begin] = asyncio.Queue()
        self._halted: set[Key] = set()
        self.computing: Key | None = None
        self._serving = asyncio.create_task(self._serve())

    def send(self, frame: frames.ToChild) -> None:
        """A frame of the agent."""
        match frame:
            case frames.Begin():
                self._begun.put_nowait(frame)
            case frames.Halt(job=job, attempt=attempt):
                self._halted.add((job, attempt))

    def kill(self) -> None:
        """End the process."""
        self._serving.cancel()
        self.computing = None

    async def _serve(self) -> None:
        while True:
            begin = await self._begun.get()
            self.computing = (begin.job, begin.attempt)
            await self._compute(begin)

    async def _compute(self, begin: frames.Begin) -> None:
        about = {"job": begin.job, "attempt": begin.attempt}
        timings: dict[str, float] = {}
        load_s, law = LAWS[begin.model]
        if begin.model not in self._warm:
            self._tell(frames.Entered(phase="loading_model", **about))  # type: ignore[arg-type]
            timings["loading_model"] = load_s * math.exp(LOAD_NOISE * self._dice.gauss(0, 1))
            await self._busy(timings["loading_model"])
        else:
            self._warm.remove(begin.model)
        self._warm = [*self._warm, begin.model][-self._keeps :]
        self._tell(frames.Entered(phase="denoising", **about))  # type: ignore[arg-type]
        features = work_of(begin.params).features
        run_s = sum(c * x for c, x in zip(law, features, strict=True)) * math.exp(
            self._noise * self._dice.gauss(0, 1)
        )
        step = await self._denoise(begin, run_s)
        if (begin.job, begin.attempt) in self._halted:
            self.computing = None
            self._tell(frames.Halted(step=step, **about))  # type: ignore[arg-type]
            return
        timings["denoising"] = run_s
        self.computing = None
        self._tell(frames.Freed(**about))  # type: ignore[arg-type]
        self._tell(frames.Finished(files=(), facts={"timings": timings}, **about))  # type: ignore[arg-type]

    async def _denoise(self, begin: frames.Begin, run_s: float) -> int:
        """Step by step to the end, or to the step in which it was halted."""
        steps = begin.params["steps"]
        step_s, step = run_s / steps, 0
        stride = max(1, round(PROGRESS_S / step_s))
        while step < steps and (begin.job, begin.attempt) not in self._halted:
            taken = min(stride, steps - step)
            await self._busy(taken * step_s)
            step += taken
            self._tell(
                frames.Stepped(
                    job=begin.job, attempt=begin.attempt, phase="denoising", step=step, steps=steps, step_s=step_s
                )
            )
        return step

    async def _busy(self, seconds: float) -> None:
        """Let the device work, and count it, however it ends."""
        key, began_at = self.computing, clock().time()
        assert key is not None
        try:
            await asyncio.sleep(seconds)
        finally:
            self._meter.add(key, clock().time() - began_at)
