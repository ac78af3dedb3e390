"""How soon after its process starts the service takes commands, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Bar, Row, against, figure, in_turn
from benchmarks.processes import bare, is_ready, service, until

HEAVY = ("torch", "diffusers", "transformers", "numpy")
START_S = 60.0


def rows(quick: bool) -> list[Row]:
    """Process start to a 200 of /v1/health/ready, on an empty and on a used log, in turn with a bare server."""
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
        kept = Path(folder) / "data"
        _service_s(kept)
        empty, again, beside = in_turn(
            2 if quick else 7, [lambda: _service_s(None), lambda: _service_s(kept), _bare_s]
        )
    return [
        against(
            "process start to ready, empty log",
            "s",
            empty,
            beside,
            "bare Starlette process to listening",
            bar=Bar(2.0),
        ),
        against("process start to ready, existing log", "s", again, beside, "bare Starlette process to listening"),
        Row(
            name="heavy modules loaded by `import web.app`",
            unit="",
            ours=figure([_heavy_modules()]),
            bar=Bar(0),
            note=f"of {', '.join(HEAVY)}",
        ),
    ]


def _service_s(data: Path | None) -> float:
    began_at = time.perf_counter()
    with service("--no-worker", data=data) as server:
        until(lambda: is_ready(server.port), START_S, "the service to be ready", every_s=0.002)
        return time.perf_counter() - began_at


def _bare_s() -> float:
    began_at = time.perf_counter()
    with bare():
        return time.perf_counter() - began_at


def _heavy_modules() -> float:
    code = "import web.app, sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(len(set(HEAVY) & set(done.stdout.split())))
