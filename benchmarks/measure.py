"""Figures, rounds and rows: how a ratio is measured on a machine whose speed drifts, and how it is shown.

A machine shared with others changes its speed within a second, so ours and the baseline are measured in turn,
many short rounds each, and a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Figure(msgspec.Struct, frozen=True):
    """The median of some rounds, with their least and most."""

    median: float
    least: float
    most: float
    rounds: int


class Bar(msgspec.Struct, frozen=True):
    """What a row has to reach, by its own figure or by its ratio."""

    limit: float
    is_floor: bool = False  # at least `limit`, else at most
    is_of_ratio: bool = False

    def holds(self, row: Row) -> bool:
        """Whether the row's median reaches it."""
        figure = row.ratio if self.is_of_ratio else row.ours
        assert figure is not None, f"row {row.name} has a bar on a ratio and no baseline"
        return figure.median >= self.limit if self.is_floor else figure.median <= self.limit


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report. `baseline_is` says what stands beside ours."""

    name: str
    unit: str
    ours: Figure
    baseline: Figure | None = None
    baseline_is: str = ""
    ratio: Figure | None = None
    bar: Bar | None = None
    note: str = ""


def figure(values: Sequence[float]) -> Figure:
    """The figure of these rounds."""
    return Figure(statistics.median(values), min(values), max(values), len(values))


def in_turn(rounds: int, measures: Sequence[Callable[[], T]]) -> list[list[T]]:
    """Each measure's results over `rounds` rounds, run in turn, forwards and backwards alternately."""
    results: list[list[T]] = [[] for _ in measures]
    for number in range(rounds):
        order = list(range(len(measures)))
        for index in order if number % 2 == 0 else reversed(order):
            results[index].append(measures[index]())
    return results


def against(
    name: str,
    unit: str,
    ours: Sequence[float],
    baseline: Sequence[float],
    baseline_is: str,
    *,
    bar: Bar | None = None,
    note: str = "",
) -> Row:
    """The row of two measures that were taken in turn: its ratio is the median over the rounds' ratios."""
    ratios = [mine / other for mine, other in zip(ours, baseline, strict=True)]
    return Row(
        name=name,
        unit=unit,
        ours=figure(ours),
        baseline=figure(baseline),
        baseline_is=baseline_is,
        ratio=figure(ratios),
        bar=bar,
        note=note,
    )


def cpu_s(pid: int) -> float:
    """CPU seconds that all living threads of a process have used, to the nanosecond (ticks are 10 ms)."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def fdatasync_s(folder: Path, times: int = 60) -> float:
    """The median seconds of overwriting 4 KiB and fdatasync in `folder`: what the disk asks for durability."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x" * (1 << 20))
        file.flush()
        os.fsync(file.fileno())
        taken = []
        for number in range(times):
            began_at = time.perf_counter()
            os.pwrite(file.fileno(), b"y" * 4096, (number % 256) * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began_at)
    return statistics.median(taken)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one a line, aligned."""
    lines = [("", "ours (least..most)", "baseline", "ratio", "bar", ""), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[5]]).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{_shown(row.ours)} {row.unit}",
        f"{_number(row.baseline.median)} {row.unit} ({row.baseline_is})" if row.baseline else "",
        _shown(row.ratio) if row.ratio else "",
        _bar(row),
        row.note,
    )


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    sign, what = (">=" if row.bar.is_floor else "<="), ("x" if row.bar.is_of_ratio else f" {row.unit}")
    return f"{sign} {_number(row.bar.limit)}{what} {'ok' if row.bar.holds(row) else 'MISSED'}"


def _shown(shown: Figure) -> str:
    if shown.rounds == 1:
        return _number(shown.median)
    return f"{_number(shown.median)} ({_number(shown.least)}..{_number(shown.most)})"


def _number(value: float) -> str:
    """Three digits that mean something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
