"""Makes docs/screenshot.png and docs/screenshot-light.png: the live page of a real service while a job runs.

From the repository: `.venv/bin/python -m docs.make_screenshots`. Needs Chromium (Debian package chromium), and
reads best with the package fonts-noto-core.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.browser import running_chromium, watched_page

FOLDER = Path(__file__).parent
SIZE = {"width": 1280, "height": 940}
SCALE = 1.25  # sharp where a README is shown narrower than this
COLOURS = 256  # a palette: half the bytes, and no difference to the eye
WORKERS = ("darkroom-1", "darkroom-2")
DONE = (
    "a large yellow heart on a black background",
    "a medium green star on a white background",
    "a large blue ring on a yellow background",
    "a small red square on a cyan background",
    "a large pink diamond on a black background",
)
RUNNING = ("a large red circle on a blue background", "a large orange heart on a purple background")
WAITING = (
    "a small yellow star on a purple background",
    "a medium black cross on a white background",
    "a large white triangle on a green background",
)
MODELS = """
[models.sketch]
title = "The embedded model under another name"
source = "package:demo_model"
tasks = ["text-to-image"]
defaults = { steps = 150, guidance = 2.0, width = 512, height = 512 }
sizes = [[512, 512]]
enlarge = 8
"""
"""What waits is of another model: jobs of one model would share calls and all run at once."""

SHOWN_FROM_STEP = 90  # of 150: well on its way, and not there yet


def main() -> None:
    """Run a service in a temporary folder, give it work, and take both pictures of the same moment."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _models(Path(folder)) as models,
        running_service(Path(folder), "--no-worker", "--models", str(models)) as service,
        _workers(service, models),
        httpx.Client(base_url=service.url, timeout=30) as client,
        running_chromium() as browser,
        watched_page(browser, service.url, color_scheme="dark", viewport=SIZE, device_scale_factor=SCALE) as dark,
        watched_page(browser, service.url, color_scheme="light", viewport=SIZE, device_scale_factor=SCALE) as light,
    ):
        pages = {"screenshot.png": dark.open(), "screenshot-light.png": light.open()}
        for seed, prompt in enumerate(DONE):
            body = {"model": "demo", "params": {"prompt": prompt, "seed": seed}}
            client.post("/v1/jobs", json=body).raise_for_status()
        for page in pages.values():
            expect(page.locator("#gallery > li")).to_have_count(len(DONE))
        for model, prompts in (("demo", RUNNING), ("sketch", WAITING)):
            for prompt in prompts:
                body = {"model": model, "params": {"prompt": prompt, "seed": 7, "steps": 150}}
                client.post("/v1/jobs", json=body).raise_for_status()
        wait_for(lambda: all(_is_developing(page) for page in pages.values()), 120, f"step {SHOWN_FROM_STEP}")
        for name, page in pages.items():
            page.screenshot(path=FOLDER / name)
        for name in pages:
            with Image.open(FOLDER / name) as picture:
                full = picture.convert("RGB")
                palette = full.quantize(COLOURS)  # undithered, it would draw contours into the previews
                full.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
                    FOLDER / name, optimize=True
                )
            print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")


@contextmanager
def _models(folder: Path) -> Iterator[Path]:
    path = folder / "models.toml"
    path.write_text(MODELS)
    yield path


@contextmanager
def _workers(service: ServiceProcess, models: Path) -> Iterator[None]:
    key = service.data / "keys" / "worker.key"
    with ExitStack() as stack:
        for name in WORKERS:
            options = [
                "--server",
                service.url,
                "--key-file",
                key,
                "--name",
                name,
                "--threads",
                "1",
                "--models",
                models,
            ]
            spool = service.data.parent / name
            command = [sys.executable, "-m", "web.cli", "worker", *options, "--spool", spool]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.terminate)
        yield


def _is_developing(page: Page) -> bool:
    """Whether every running job shows a preview and has come far enough."""
    bars = page.locator("#running progress").evaluate_all("bars => bars.map((bar) => bar.value)")
    previews = page.locator('#running img[src^="blob:"]').count()
    return previews == len(bars) == len(WORKERS) and min(bars) >= SHOWN_FROM_STEP


if __name__ == "__main__":
    main()
