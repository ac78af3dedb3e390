"""A file in pieces: what breaks, what is kept, what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.worker import downloads
from service.worker.downloads import DownloadFailed, download
from tests.hub import COMMIT, Hub, running_hub

CONTENT = bytes(range(256)) * 40
NAME = "weights.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / NAME).write_bytes(CONTENT)
    with running_hub({"org/name": tmp_path / "repository"}) as hub:
        yield hub


def fetch(hub: Hub, folder: Path, content: bytes = CONTENT) -> int:
    """Download it; gives how far the telling came."""
    told: list[int] = []
    target = folder / hashlib.sha256(content).hexdigest()
    url = f"{hub.url}/org/name/resolve/{COMMIT}/{NAME}"
    try:
        download(url, {}, target, len(content), told.append)
        assert target.read_bytes() == content
    finally:
        assert len(list(folder.glob("*.part"))) + target.exists() <= 1
    return sum(told)


@given(
    left=st.integers(0, len(CONTENT)),
    cut=st.none() | st.integers(0, len(CONTENT) - 1),
    has_ranges=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_it_goes_on_from_wherever_it_broke_and_all_bytes_are_told_once(
    hub: Hub, tmp_path_factory: pytest.TempPathFactory, left: int, cut: int | None, has_ranges: bool
) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    (folder / f"{hashlib.sha256(CONTENT).hexdigest()}.part").write_bytes(CONTENT[:left])
    hub.has_ranges = has_ranges
    hub.break_after = {NAME: cut} if cut is not None else {}
    assert fetch(hub, folder) == len(CONTENT)


def test_a_server_that_gives_no_more_is_told_and_what_came_is_kept(hub: Hub, tmp_path: Path) -> None:
    longer = CONTENT + b"more"
    with pytest.raises(DownloadFailed, match=r"its server (gives no more|answered 416)"):
        fetch(hub, tmp_path, longer)
    (part,) = tmp_path.glob("*.part")
    assert part.read_bytes() == CONTENT


def test_other_bytes_than_promised_are_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.lie_about = NAME
    with pytest.raises(DownloadFailed, match="not what was promised"):
        fetch(hub, tmp_path)
    assert list(tmp_path.glob("*.part")) == []


def test_an_answer_that_is_no_file_is_named(hub: Hub, tmp_path: Path) -> None:
    (hub.repositories["org/name"] / NAME).unlink()
    with pytest.raises(DownloadFailed, match="its server answered 404"):
        fetch(hub, tmp_path)


def test_two_processes_do_not_fetch_into_one_file(hub: Hub, tmp_path: Path) -> None:
    import fcntl

    part = tmp_path / f"{hashlib.sha256(CONTENT).hexdigest()}.part"
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadFailed, match="another process is fetching"):
            fetch(hub, tmp_path)
    assert fetch(hub, tmp_path) == len(CONTENT)
