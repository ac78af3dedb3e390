from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from service.worker.frames import SpooledFile
from service.worker.spool import Spool, SpoolTaken, default_folder


def file(name: str) -> SpooledFile:
    return SpooledFile(name=name, digest="0" * 64, media_type="image/png", bytes=1)


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    with pytest.raises(SpoolTaken, match=f"process id {os.getpid()}"):
        Spool(tmp_path / "spool")
    first.close()
    Spool(tmp_path / "spool").close()


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert stat.S_IMODE(spool.results.stat().st_mode) == 0o700
    spool.close()


def test_a_sweep_leaves_what_is_known(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for name in ("known.png", "leftover.png"):
        (spool.results / name).write_bytes(b"x")
    spool.sweep([file("known.png")])
    assert [path.name for path in spool.results.iterdir()] == ["known.png"]
    spool.remove([file("known.png"), file("gone.png")])
    assert list(spool.results.iterdir()) == []
    spool.close()


def test_fetched_pictures_go_with_their_attempt_and_never_outlive_an_agent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    first, second = spool.new_input(), spool.new_input()
    for path in (first, second):
        path.write_bytes(b"x")
    spool.discard([first, spool.new_input()])
    assert [path.name for path in first.parent.iterdir()] == [second.name]
    spool.sweep([])
    assert list(first.parent.iterdir()) == []
    spool.close()


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert spool.path(file("../../etc/passwd")) == spool.results / "passwd"
    spool.close()


def test_the_default_folder_is_apart_for_each_service_and_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_folder("https://host:8443/x", "cuda:1") == Path("/caches/safelight/worker/host_8443-cuda_1")
    assert default_folder("http://host", "a/../b").name == "host-a_.._b"
