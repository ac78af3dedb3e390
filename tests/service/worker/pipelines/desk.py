"""One run of a task, in this process: takes what it sends, and halts it where a test says."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from service.tasks.catalog import EMBEDDED, Model
from service.tasks.task import Params
from service.worker.frames import Entered, FromChild, Stepped
from service.worker.run import Made, Run
from tests.service.worker.engine.alone import in_engine

DEMO = EMBEDDED["demo"]
TINY = msgspec.structs.replace(DEMO, id="tiny", source=None, enlarge=1, sizes=(), defaults={})


def tiny_at(folder: Path) -> Model:
    """The catalogue entry of a tiny model whose weights are in `folder`."""
    return msgspec.structs.replace(TINY, source=str(folder))


class Desk:
    """A run, and what was heard of it."""

    def __init__(
        self,
        folder: Path,
        params: Params,
        *,
        model: Model = TINY,
        inputs: Mapping[str, Path] | None = None,
        halt_at: int | None = None,
        is_watched: bool = False,
    ) -> None:
        """Results go to `folder`, where the inputs are, too, named like their params, unless told otherwise. The
        run is halted as soon as it has told of `halt_at` steps."""
        self.sent: list[FromChild] = []
        self._halt_at = halt_at
        self.run = Run(
            job="j",
            attempt=1,
            model=model,
            params=params,
            folder=folder,
            send=self._take,
            is_watched=lambda: is_watched,
            inputs=inputs or {field: folder / field for field in params.INPUTS},
        )

    def compute(self, loaded: Any) -> Made:
        """What the task's module makes of the run, inside of an engine."""
        made: Made = import_module(self.run.params.RUNNER).compute(self.run, loaded)
        return made

    def result(self, loaded: Any) -> Made:
        """What the run makes as the only one of an engine."""
        return in_engine(partial(self.compute, loaded))

    def made(self, loaded: Any) -> np.ndarray:
        """The picture that the run makes as the only one of an engine."""
        return self.exported(self.result(loaded))

    def exported(self, made: Made) -> np.ndarray:
        """The picture that is exported, read back."""
        assert made.export is not None
        (file,) = made.export()
        picture = np.asarray(Image.open(io.BytesIO((self.run.folder / file.name).read_bytes())))
        assert picture.shape == (file.height, file.width, 3)
        return picture

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
        if self._halt_at is not None and isinstance(frame, Stepped) and frame.step >= self._halt_at:
            self.run.halt()
