"""The commands about models: what is checked, fetched from a small hub of our own, and added."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.tasks.models_file import read_models
from service.worker.demo_model import WEIGHTS
from tests.hub import COMMIT, Hub, running_hub
from tests.service_process import wait_for

ROOT = Path(__file__).parents[2]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with the embedded model, and with what a repository has that nobody needs."""
    folder = tmp_path / "repository"
    shutil.copytree(WEIGHTS, folder)
    save_file({"large": np.zeros(24 << 20, np.uint8)}, folder / UNET)
    (folder / "all-in-one.safetensors").write_bytes(b"x" * 1000)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x" * 1000)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x" * 1000)
    (folder / "vae_1_0").mkdir()
    (folder / "vae_1_0" / "diffusion_pytorch_model.safetensors").write_bytes(b"x" * 1000)
    with running_hub({"org/demo": folder}) as hub:
        yield hub


class Home:
    """A user with a models file and a hub's cache."""

    def __init__(self, folder: Path, hub: str = "http://127.0.0.1:9", offline: str = "0") -> None:
        self.file = folder / "models.toml"
        self.cache = folder / "hub"
        self._environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "SAFELIGHT_DATA": str(folder), "HF_ENDPOINT": hub,
            "HF_HUB_CACHE": str(self.cache), "HF_HOME": str(folder), "HF_HUB_OFFLINE": offline,
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "web.cli", "models", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        return out + err


ENTRY = f"""# keep me
[models.far]
source = "org/demo"
revision = "{COMMIT}"
tasks = ["text-to-image"]
"""


def test_a_model_is_fetched_without_what_nobody_needs_and_then_whole(tmp_path: Path, hub: Hub) -> None:
    home = Home(tmp_path, hub.url)
    home.file.write_text(ENTRY)
    assert "far: 0 files, 0 bytes, damaged" in home.run("check", "far", code=1)
    hub.break_after[UNET] = 15_000_000
    said = home.run("pull", "far")
    assert "org/demo: " in said
    assert "model far is here" in said
    taken = {name for name, _ in hub.got}
    assert UNET in taken
    assert "tokenizer/tokenizer.json" in taken
    assert not taken & {"all-in-one.safetensors", "unet/diffusion_pytorch_model.bin"}
    assert not any("vae_1_0" in name or "fp16" in name for name in taken)
    (again,) = [first for name, first in hub.got if name == UNET and first]
    assert 0 < again <= 15_000_000, "it goes on where the connection broke"
    checked = json.loads(home.run("check", "far", "--json"))
    assert checked == [{"model": "far", "files": 3, "bytes": checked[0]["bytes"], "problems": []}]


def test_a_pull_that_was_ended_goes_on_within_the_file(tmp_path: Path, hub: Hub) -> None:
    home = Home(tmp_path, hub.url)
    home.file.write_text(ENTRY)
    hub.hang_after[UNET] = 15_000_000
    ended = home.start("pull", "far")
    blobs = home.cache / "models--org--demo" / "blobs"
    wait_for(
        lambda: any(path.stat().st_size > 10_000_000 for path in blobs.glob("*.part")), 60, "half of it to be here"
    )
    ended.kill()
    ended.communicate()
    hub.hang_after.clear()
    before = {name for name, _ in hub.got} - {UNET}
    hub.got.clear()
    home.run("pull", "far")
    assert [first > 10_000_000 for name, first in hub.got if name == UNET] == [True]
    assert not before & {name for name, _ in hub.got}, "what is whole is not fetched again"
    assert list(blobs.glob("*.part")) == []


def test_bytes_that_were_not_promised_are_thrown_away(tmp_path: Path, hub: Hub) -> None:
    home = Home(tmp_path, hub.url)
    home.file.write_text(ENTRY)
    hub.lie_about = UNET
    said = home.run("pull", "far", code=1)
    assert f"{UNET}: what came is not what was promised" in said
    hub.lie_about = None
    home.run("pull", "far")
    assert "far: 3 files" in home.run("check", "far")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("org/demo", "org/nothing"), "the hub has no org/nothing, or not for you"),
        ((COMMIT, "d" * 40), f"org/demo has no commit {'d' * 40}; copy one from the hub's page"),
    ],
)
def test_what_the_hub_does_not_have_is_named(tmp_path: Path, hub: Hub, change: tuple[str, str], says: str) -> None:
    home = Home(tmp_path, hub.url)
    home.file.write_text(ENTRY.replace(*change))
    assert says in home.run("pull", "far", code=1)


def test_without_a_network_a_pull_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.file.write_text(ENTRY)
    assert "could not be fetched" in home.run("pull", "far", code=1)
    assert "there is nothing to fetch" in home.run("pull", "demo", code=1)


def test_whoever_has_the_hub_offline_is_not_taken_online(tmp_path: Path) -> None:
    home = Home(tmp_path, offline="1")
    home.file.write_text(ENTRY)
    assert "HF_HUB_OFFLINE is set, and pulling goes online; unset it" in home.run("pull", "far", code=2)


def test_check_looks_at_all_models_at_a_file_or_at_some(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert "demo: 3 files, 5.1 MiB, whole" in home.run("check")
    shutil.copytree(WEIGHTS, tmp_path / "mine")
    (tmp_path / "mine" / UNET).write_bytes(b"torn")
    other = tmp_path / "other.toml"
    other.write_text('[models.mine]\nsource = "./mine"\ntasks = ["text-to-image"]\n')
    said = home.run("check", str(other), "demo", code=1)
    assert "mine: 3 files" in said
    assert f"  {UNET}: it is no safetensors file (4 bytes); put the whole file there" in said
    assert "demo: 3 files" in said
    assert "none.toml cannot be read: No such file" in home.run("check", "--models", "none.toml", code=2)
    assert "'none' is neither a model nor a .toml file; use demo, pretend" in home.run("check", "none", code=2)


def test_an_entry_is_added_behind_what_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.file.write_text(ENTRY)
    words = ["add", "near", "--source", str(WEIGHTS), "--task", "text-to-image", "--title", 'A "near" one']
    said = home.run(*words, "--memory", "2 GiB", "--default", "steps=4", "--licence", "Apache-2.0")
    assert f"added to {home.file}" in said
    assert home.file.read_text().startswith(ENTRY)
    far, near = read_models(home.file)
    assert (far.id, near.id, near.title, near.defaults) == ("far", "near", 'A "near" one', {"steps": 4})
    assert (near.memory_bytes, near.licence, near.source) == (2 << 30, "Apache-2.0", str(WEIGHTS))
    assert "models.near is there already" in home.run(*words, code=2)


def test_nothing_is_added_that_is_wrong_or_not_whole(tmp_path: Path) -> None:
    home = Home(tmp_path)
    wrong = home.run("add", "a", "--source", str(WEIGHTS), "--task", "paint", code=2)
    assert "models.a.tasks: there is no task 'paint'" in wrong
    (tmp_path / "empty").mkdir()
    empty = home.run("add", "a", "--source", str(tmp_path / "empty"), "--task", "text-to-image", code=1)
    assert "its folder has no model_index.json" in empty
    assert not home.file.exists()
    far = home.run("add", "a", "--source", "org/demo", "--revision", COMMIT, "--task", "text-to-image")
    assert "fetch it with: safelight models pull a" in far
    assert [model.id for model in read_models(home.file)] == ["a"]
