from __future__ import annotations

import os
from pathlib import Path

from service.worker.digests import digest
from service.worker.weights import WeightFile


def files(folder: Path, **contents: bytes) -> list[WeightFile]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [WeightFile(name, folder / name) for name in contents]


def test_names_and_contents_make_the_digest_and_order_does_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    there = files(tmp_path / "a", x=b"1", y=b"2")
    moved = files(tmp_path / "b", y=b"2", x=b"1")
    swapped = files(tmp_path / "c", x=b"2", y=b"1")
    assert digest(there, cache) == digest(moved, cache)
    assert digest(there, cache) != digest(swapped, cache)


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (file,) = files(tmp_path / "a", x=b"1")
    first = digest([file], cache)
    (known,) = cache.iterdir()
    known.write_text("0" * 64)
    assert digest([file], cache) != first, "what is remembered counts"
    os.utime(file.path, ns=(1, 1))
    assert digest([file], cache) == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    (file,) = files(tmp_path / "a", x=b"1")
    assert digest([file], tmp_path / "cache" / "digests") == digest([file], tmp_path / "other")
