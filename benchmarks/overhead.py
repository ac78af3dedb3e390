"""What the service adds to a bare diffusers loop over the embedded model, a picture.

Both compute with one torch thread, so that the service has a core beside it as it would have beside a GPU; the
worker is started by itself for that, as on another machine. The bare loop, `python -m benchmarks.overhead`, loads
the catalogue's model as a script would and makes as many pictures as each line of its standard input says.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from benchmarks import load
from benchmarks.measure import Row, against, in_turn
from benchmarks.processes import ONE_THREAD, Server, get, has_worker, service, until
from service.tasks.catalog import EMBEDDED

MODEL = EMBEDDED["demo"]
PROMPT = "a large red circle on a blue background"
START_S = 120.0


def rows(quick: bool) -> list[Row]:
    """Pictures made in a queue and one alone, in turn with the pipeline's calls, and with calls that also save."""
    pictures, rounds = (4, 2) if quick else (12, 5)
    with service("--no-worker") as ours, _worker(ours), _loop() as loop:
        until(partial(has_worker, ours.port), START_S, "the worker to connect")
        _queue_ms(ours, 2)  # warm: the model is loaded
        queued, alone, called, saved = in_turn(
            rounds,
            [
                partial(_queue_ms, ours, pictures),
                partial(_alone_ms, ours, max(2, pictures // 4)),
                partial(_loop_ms, loop, pictures, "call"),
                partial(_loop_ms, loop, pictures, "save"),
            ],
        )
    what, call = "through the service", "pipeline calls, nothing saved"
    return [
        against(f"a picture of {pictures} queued, {what}", "ms", queued, called, call),
        against(
            f"a picture of {pictures} queued, {what}", "ms", queued, saved, "pipeline calls and image.save as PNG"
        ),
        against(f"one picture alone, {what}", "ms", alone, called, call, note="submit sent to completion recorded"),
    ]


def _body(seed: int) -> bytes:
    body = {"model": MODEL.id, "params": {"prompt": PROMPT, "seed": seed}}
    return load.request("POST", "/v1/jobs", msgspec.json.encode(body))


def _queue_ms(ours: Server, pictures: int) -> float:
    """Milliseconds a picture, from the first submit until the last completion that the log records."""
    client = load.Client(ours.port)
    began_at = time.time()
    jobs = [msgspec.json.decode(client.ask(_body(seed)))["id"] for seed in range(pictures)]
    client.close()
    ended_at = max(_ended_at(ours.port, job) for job in jobs)
    return (ended_at - began_at) / pictures * 1e3


def _alone_ms(ours: Server, times: int) -> float:
    return sum(_queue_ms(ours, 1) for _ in range(times)) / times


def _ended_at(port: int, job: str) -> float:
    def ended() -> str | None:
        found = get(port, f"/v1/jobs/{job}")
        if found["status"] == "failed":
            raise RuntimeError(f"job {job} failed: {found['error']}")
        return found["finished_at"]  # type: ignore[return-value]

    return datetime.fromisoformat(until(ended, START_S, f"job {job} to end", every_s=0.05) or "").timestamp()


@contextmanager
def _worker(ours: Server) -> Iterator[None]:
    """`safelight worker` on one thread, ended with the block."""
    key, spool = ours.folder / "data" / "keys" / "worker.key", ours.folder / "spool"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "service.worker.cli", "--server", f"http://127.0.0.1:{ours.port}"),
            *("--key-file", str(key), "--spool", str(spool), "--model", MODEL.id, "--device", "cpu"),
            *("--threads", "1", "--with-parent"),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **ONE_THREAD},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _loop() -> Iterator[subprocess.Popen[str]]:
    """The bare loop's process, with its model loaded and warm."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.overhead"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    try:
        _loop_ms(process, 2, "save")
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _loop_ms(process: subprocess.Popen[str], pictures: int, way: str) -> float:
    assert process.stdin is not None, "the loop was started with pipes"
    assert process.stdout is not None, "the loop was started with pipes"
    process.stdin.write(f"{pictures} {way}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _serve_loop() -> None:
    """The bare loop: for each line `PICTURES call|save`, the milliseconds a picture took."""
    import diffusers
    import torch

    from service.worker.demo_model import WEIGHTS

    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(
        WEIGHTS, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        pictures, way = line.split()
        began_at = time.perf_counter()
        for seed in range(int(pictures)):
            _draw(pipe, torch.Generator("cpu").manual_seed(seed), is_saved=way == "save")
        print((time.perf_counter() - began_at) / int(pictures) * 1e3, flush=True)


def _draw(pipe: Any, generator: Any, *, is_saved: bool) -> None:
    defaults = MODEL.defaults
    image = pipe(
        PROMPT,
        num_inference_steps=defaults["steps"],
        guidance_scale=defaults["guidance"],
        width=defaults["width"] // MODEL.enlarge,
        height=defaults["height"] // MODEL.enlarge,
        generator=generator,
    ).images[0]
    if is_saved:
        image.resize((defaults["width"], defaults["height"])).save(io.BytesIO(), "PNG")


if __name__ == "__main__":
    _serve_loop()
