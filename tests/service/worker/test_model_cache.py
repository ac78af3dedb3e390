from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from service.tasks.catalog import EMBEDDED
from service.tasks.pretend import Pretend
from service.worker import model_cache
from service.worker.engine.engine import Engine
from service.worker.engine.learning import Learned
from service.worker.frames import Entered, FromChild, Loaded
from service.worker.model_cache import ModelCache
from service.worker.models import ModelMissing
from service.worker.run import Cancelled, Run
from tests.service.worker.engine.alone import in_engine

INDEX = '{"_class_name": "SlowPipeline"}'


class SlowLoader:
    """Stands where a pipeline module would: loads when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.let = threading.Event()
        self.loads = 0
        self.model = msgspec.structs.replace(EMBEDDED["pretend"], id="slow", source=str(folder))
        (folder / "model_index.json").write_text(INDEX)
        monkeypatch.setitem(sys.modules, "tests.slow_pipeline", SimpleNamespace(load=self.load))  # type: ignore[arg-type]
        monkeypatch.setattr(Pretend, "RUNNER", "tests.slow_pipeline")

    def load(self, model: object, device: str, threads: int) -> str:
        self.loads += 1
        assert self.let.wait(30)
        return "warm"

    def run(self, sent: list[FromChild]) -> Run:
        return Run("j", 1, self.model, Pretend(), Path(), sent.append, lambda: False)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SlowLoader:
    return SlowLoader(monkeypatch, tmp_path)


def test_a_model_is_loaded_once_and_only_the_wait_is_a_phase(slow: SlowLoader) -> None:
    sent: list[FromChild] = []
    cache = ModelCache("cpu", 1, sent.append)
    threading.Timer(0.05, slow.let.set).start()
    assert [in_engine(partial(cache.get, slow.run(sent))) for _ in range(2)] == ["warm", "warm"]
    assert slow.loads == 1
    assert [frame.phase for frame in sent if isinstance(frame, Entered)] == ["loading_model"]


def test_a_cancelled_job_does_not_wait_and_loading_goes_on(slow: SlowLoader) -> None:
    cache = ModelCache("cpu", 1, lambda frame: None)
    engine = Engine(Learned())
    waiting = engine.join(partial(cache.get, slow.run([])))
    engine.tick()
    assert engine.is_stuck()
    waiting.halt_with = Cancelled()
    assert engine.tick() == [waiting]
    assert waiting.error is waiting.halt_with
    slow.let.set()
    assert in_engine(partial(cache.get, slow.run([]))) == "warm"
    assert slow.loads == 1


def test_a_failed_load_is_told_and_tried_again_for_the_next_job(slow: SlowLoader, tmp_path: Path) -> None:
    sent: list[FromChild] = []
    cache = ModelCache("cpu", 1, sent.append)
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(ModelMissing):
        in_engine(partial(cache.get, slow.run([])))
    assert any(isinstance(frame, Loaded) and frame.why_not for frame in sent)
    (tmp_path / "model_index.json").write_text(INDEX)
    slow.let.set()
    assert in_engine(partial(cache.get, slow.run([]))) == "warm"


@pytest.mark.parametrize(
    ("told", "cores", "threads"), [("3", 8, 3), ("", 8, 7), ("", 1, 1), ("no", 2, 1), ("0", 4, 3)]
)
def test_a_core_is_left_for_everything_else_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, told: str, cores: int, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert model_cache._spare_cores() == threads
