"""One attempt inside the child: what its pipeline reports to, and asks whether it may go on.

Used by the thread that computes and then by the thread that exports, never by both at once; only `halt`
is called from a third. While it computes it is a member of the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from service.tasks.catalog import Model
from service.tasks.task import Params
from service.worker.frames import Entered, FromChild, Shown, SpooledFile, Stepped

if TYPE_CHECKING:
    from service.worker.engine.tape import Tape

PROGRESS_S = 0.05  # 20 a second are smooth for the eye; a fast pipeline would flood the agent
PREVIEW_S = 0.25  # a preview costs 1-3 ms, so that four a second stay below 1 % of the time


class Cancelled(Exception):
    """The attempt was told to halt; raised out of the pipeline."""


class Made(msgspec.Struct, frozen=True):
    """What a pipeline computed. `export` writes it as files; it no longer needs the device."""

    facts: dict[str, Any]
    export: Callable[[], tuple[SpooledFile, ...]] | None = None


class Run:
    """One attempt while the child has it."""

    def __init__(
        self,
        job: str,
        attempt: int,
        model: Model,
        params: Params,
        folder: Path,
        send: Callable[[FromChild], None],
        is_watched: Callable[[], bool],
        inputs: Mapping[str, Path] | None = None,
        tape_path: Path | None = None,
        about: object = None,
    ) -> None:
        """`folder` takes the result files; `is_watched` tells whether previews are wanted now; `inputs` are the
        pictures that the job starts from, by param; `tape_path` and `about`: see Tape."""
        self.job = job
        self.attempt = attempt
        self.model = model
        self.params = params
        self.folder = folder
        self.inputs = inputs or {}
        self.phase = ""
        self.step = 0
        self.step_s = 0.0  # mean seconds of the steps so far
        self.seconds: dict[str, float] = {}  # phase -> seconds
        self._tape_path = tape_path
        self._about = about
        self._send = send
        self._is_watched = is_watched
        self._halt = threading.Event()
        self._parked_in = ""
        self._entered_at = time.monotonic()
        self._first_step_at = 0.0
        self._progress_at = 0.0
        self._preview_at = 0.0

    @cached_property
    def tape(self) -> Tape | None:
        """What a denoiser has said of the attempt, kept for a next process; one for all that the attempt calls."""
        from service.worker.engine.tape import Tape  # loads torch, which not every task needs

        return Tape(self._tape_path, self._about) if self._tape_path is not None else None

    def halt(self) -> None:
        """Have the next `check` raise."""
        self._halt.set()

    @property
    def is_halted(self) -> bool:
        """Whether it was told to halt."""
        return self._halt.is_set()

    def check(self) -> None:
        """Raise Cancelled when the attempt was told to halt."""
        if self._halt.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, or raise Cancelled as soon as the attempt is told to halt."""
        self._halt.wait(seconds)
        self.check()

    def enter(self, phase: str) -> None:
        """Begin a phase, ending the one before; entering the current one again does nothing."""
        if phase == self.phase:
            return
        self.leave()
        self.phase = phase
        self._send(Entered(job=self.job, attempt=self.attempt, phase=phase))

    def park(self, is_parked: bool) -> None:
        """Others are served before it for a while, or it is its turn again: a phase of its own in between."""
        if is_parked:
            self._parked_in = self.phase
        self.enter("parked" if is_parked else self._parked_in)

    def leave(self) -> None:
        """End the current phase: its seconds are counted."""
        now = time.monotonic()
        if self.phase:
            self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self._entered_at
        self.phase, self._entered_at = "", now

    def stepped(self, step: int, steps: int) -> None:
        """Report that `step` of `steps` are done, 0 for the beginning."""
        now = time.monotonic()
        if step == 0:
            self._first_step_at = now
        self.step = step
        self.step_s = (now - self._first_step_at) / step if step else 0.0
        if step not in (0, steps) and now - self._progress_at < PROGRESS_S:
            return
        self._progress_at = now
        self._send(
            Stepped(
                job=self.job,
                attempt=self.attempt,
                phase=self.phase,
                step=step,
                steps=steps,
                step_s=self.step_s,
            )
        )

    def is_preview_due(self) -> bool:
        """Whether somebody looks and the last preview is old enough."""
        return self._is_watched() and time.monotonic() - self._preview_at >= PREVIEW_S

    def show(self, data: bytes, width: int, height: int) -> None:
        """Send a passing picture, JPEG of `width` x `height` px."""
        self._preview_at = time.monotonic()
        self._send(Shown(job=self.job, attempt=self.attempt, step=self.step, width=width, height=height, data=data))

    def timings(self) -> dict[str, float]:
        """Seconds of each phase so far, and the mean of a step as `step_s`."""
        phases = {phase: round(seconds, 4) for phase, seconds in self.seconds.items()}
        return {**phases, "step_s": round(self.step_s, 5)}
