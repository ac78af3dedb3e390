"""`python -m benchmarks`: run the rows, print them. Exit code 0 also when a bar is missed: it is a report."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from benchmarks import engine, noop, overhead, reads, replay, simulation, startup, submit, waiting
from benchmarks.measure import Row, table

SUBJECTS: Mapping[str, Callable[[bool], list[Row]]] = {
    "startup": startup.rows,
    "submit": submit.rows,
    "noop": noop.rows,
    "waiting": waiting.rows,
    "reads": reads.rows,
    "replay": replay.rows,
    "overhead": overhead.rows,
    "engine": engine.rows,
    "simulation": simulation.rows,
}


def main() -> None:
    """Measure what was asked for."""
    options = _options()
    found: list[Row] = []
    for name in options.only or SUBJECTS:
        began_at = time.monotonic()
        print(f"measuring {name} ...", file=sys.stderr, end=" ", flush=True)
        found += SUBJECTS[name](options.quick)
        print(f"{time.monotonic() - began_at:.0f} s", file=sys.stderr)
    print(f"\n{table(found)}")
    with_bar = [row for row in found if row.bar is not None]
    missed = [row.name for row in with_bar if row.bar is not None and not row.bar.holds(row)]
    print(
        f"\n{len(with_bar) - len(missed)} of {len(with_bar)} bars met"
        + (f"; MISSED: {', '.join(missed)}" * bool(missed))
    )
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=SUBJECTS, help="measure this subject (default: all); repeatable"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, small histories: to see that it runs (default: off)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the rows to this file (default: none)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
