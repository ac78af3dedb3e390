"""Tasks of other packages: what is taken, and what is left out with which words."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from service.tasks.registry import BUILT_IN, GROUP, TASKS, collected
from service.tasks.task import Params
from service.tasks.text_to_image import TextToImage

ROOT = Path(__file__).parents[3]


class Good(TextToImage, frozen=True, kw_only=True):
    TASK = "good"
    RUNNER = "nowhere"


class Nameless(Params, frozen=True, kw_only=True):
    RUNNER = "nowhere"


class Indescribable(Params, frozen=True, kw_only=True):
    TASK = "indescribable"
    RUNNER = "nowhere"

    what: complex = 1j


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value if ":" in value else f"{__name__}:{value}", GROUP)


def test_a_task_of_another_package_joins_ours() -> None:
    tasks, problems = collected([point("good", "Good")])
    assert list(tasks) == [*(kind.TASK for kind in BUILT_IN), "good"]
    assert (tasks["good"], problems) == (Good, [])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("text-to-image", "Good", "there is a task text-to-image already; give yours another name"),
        ("better", "Good", "test_registry:Good is the task good; name the entry point so, or correct TASK"),
        ("nameless", "Nameless", "test_registry:Nameless has no TASK; set it to a string"),
        ("indescribable", "Indescribable", "the task indescribable of an unknown package is left out: TypeError"),
        ("path", "ROOT", "test_registry:ROOT is no subclass of service.tasks.task.Params"),
        ("gone", "no.such.module:X", "ModuleNotFoundError: No module named 'no'"),
        ("gone", "Gone", "AttributeError: module 'tests.service.tasks.test_registry' has no attribute 'Gone'"),
    ],
)
def test_a_task_that_cannot_be_used_is_left_out_in_words(name: str, value: str, says: str) -> None:
    tasks, problems = collected([point(name, value), point("good", "Good")])
    assert set(tasks) == {*(kind.TASK for kind in BUILT_IN), "good"}
    (problem,) = problems
    assert says in problem


def test_a_broken_package_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{GROUP}]\nworse = broken_package:Worse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "from service.tasks.registry import TASKS; print(*TASKS)"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    assert done.stdout.split() == list(TASKS)
    assert done.stderr == (
        "the task worse of broken is left out: ModuleNotFoundError: No module named 'broken_package'\n"
    )
