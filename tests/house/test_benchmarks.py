"""The harness runs: one quick row, and what it says of a bar."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import encoders
from benchmarks.bare import SUBMISSION, answer
from benchmarks.measure import Bar, Row, figure, in_turn, table
from web.submissions import Submission

ROOT = Path(__file__).parents[2]


def test_a_quick_row_is_measured_and_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "startup", "--json", str(tmp_path / "rows.json")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bars met" in done.stdout
    rows = msgspec.json.decode((tmp_path / "rows.json").read_bytes(), type=list[Row])
    assert [row.unit for row in rows] == ["s", "s", ""]


def test_every_encoder_that_is_compared_can_be_had() -> None:
    frames = encoders.film(np.random.default_rng(1), 3, 48, 64)
    wave = np.zeros((4_410, 2), np.float32)
    ways = encoders.picture_ways(frames[0]) | encoders.video_ways(frames) | encoders.sound_ways(wave)
    assert all(len(write()) > 100 for write in ways.values())


def test_a_missed_bar_is_said() -> None:
    row = Row(name="x", unit="ms", ours=figure([3.0, 1.0, 2.0]), bar=Bar(1.5))
    assert "2 (1..3) ms" in table([row])
    assert "<= 1.5 ms MISSED" in table([row])
    assert not Bar(5.0, is_floor=True).holds(row)


def test_rounds_are_taken_forwards_and_backwards() -> None:
    order: list[str] = []
    in_turn(2, [lambda: order.append("a"), lambda: order.append("b")])
    assert order == ["a", "b", "b", "a"]


def test_the_bare_server_still_answers_in_the_shapes_of_the_api() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(answer(msgspec.json.decode(SUBMISSION, type=Submission))))
    assert (shown["task"], shown["queue"]) == ("text-to-image", "default")
