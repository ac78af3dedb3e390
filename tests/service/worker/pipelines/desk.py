"""Takes what a run sends, and halts it where a test says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from service.tasks.catalog import EMBEDDED, Model
from service.tasks.task import Params
from service.worker.frames import Entered, FromChild, Stepped
from service.worker.run import Made, Run
from tests.service.worker.engine.alone import in_engine


def model_at(folder: Path, task: str) -> Model:
    """A catalogue entry for weights in `folder`."""
    return msgspec.structs.replace(EMBEDDED["pretend"], id="tiny", tasks=(task,), source=str(folder))


class Desk:
    """One run at a time."""

    def __init__(self, folder: Path, model: Model, *, halt_at: int | None = None, is_watched: bool = False) -> None:
        """Results go to `folder`; the run is halted as soon as it has done `halt_at` steps."""
        self.sent: list[FromChild] = []
        self._folder = folder
        self._model = model
        self._halt_at = halt_at
        self._is_watched = is_watched

    def run(self, params: Params, inputs: Mapping[str, Path] | None = None) -> Run:
        """A run whose frames come here."""
        self.current = Run(
            job="j",
            attempt=1,
            model=self._model,
            params=params,
            folder=self._folder,
            send=self._take,
            is_watched=lambda: self._is_watched,
            inputs=inputs or {},
        )
        return self.current

    def made(self, runner: Any, loaded: Any, params: Params, inputs: Mapping[str, Path] | None = None) -> Made:
        """What the module `runner` computes, as the only job of an engine."""
        run = self.run(params, inputs)
        made: Made = in_engine(lambda: runner.compute(run, loaded))
        return made

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Every (step, steps) that was told."""
        return [(frame.step, frame.steps) for frame in self.sent if isinstance(frame, Stepped)]

    @property
    def phases(self) -> list[str]:
        """Every phase in its order."""
        return [frame.phase for frame in self.sent if isinstance(frame, Entered)]

    def _take(self, frame: FromChild) -> None:
        self.sent.append(frame)
        halt_at = self._halt_at
        if halt_at is not None and isinstance(frame, Stepped) and frame.step >= halt_at:
            self.current.halt()
