"""Files kept by content: durable before they exist, and never under a name a client chose."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from service.artifacts import MAX_TEXT_BYTES, ArtifactRejected, ArtifactStore, file_name
from service.pictures import Picture
from tests.service.test_pictures import saved

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 1000
DIGEST = hashlib.sha256(PNG).hexdigest()


async def chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def files(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in store._root.rglob("*") if path.is_file())


async def test_what_was_stored_is_found_by_its_digest(store: ArtifactStore) -> None:
    assert await store.store(DIGEST, "image/png", chunks(PNG)) == len(PNG)
    path = store.path(DIGEST)
    assert path is not None
    assert path.read_bytes() == PNG
    assert files(store) == [DIGEST]


@pytest.mark.parametrize("size", [1, 3, 8, 100_000])
async def test_how_the_bytes_are_cut_does_not_matter(store: ArtifactStore, size: int) -> None:
    await store.store(DIGEST, "image/png", chunks(PNG, size))
    assert store.path(DIGEST) is not None


@pytest.mark.parametrize(
    ("digest", "media_type", "data", "says"),
    [
        (DIGEST, "image/png", PNG + b"x", "have digest"),
        ("0" * 64, "image/png", PNG, "have digest"),
        (hashlib.sha256(b"<svg>").hexdigest(), "image/png", b"<svg>", "are not like a file of image/png"),
        (DIGEST, "image/svg+xml", PNG, "is not stored; use one of image/png"),
        ("../../etc/passwd", "image/png", PNG, "64 lower-case hex digits"),
        (DIGEST.upper(), "image/png", PNG, "64 lower-case hex digits"),
        (hashlib.sha256(b"").hexdigest(), "image/png", b"", "are not like"),
    ],
)
async def test_what_is_not_what_it_says_is_not_stored(
    store: ArtifactStore, digest: str, media_type: str, data: bytes, says: str
) -> None:
    with pytest.raises(ArtifactRejected, match=says):
        await store.store(digest, media_type, chunks(data))
    assert files(store) == []


@pytest.mark.parametrize(
    ("media_type", "data", "is_taken"),
    [
        ("image/webp", b"RIFF\0\0\0\0WEBPVP8 ", True),
        ("image/webp", b"RIFF\0\0\0\0WAVEfmt ", False),
        ("audio/wav", b"RIFF\0\0\0\0WAVEfmt ", True),
        ("audio/flac", b"fLaC\0", True),
        ("video/mp4", b"\0\0\0\x20ftypisom", True),
        ("video/mp4", b"<script>alert(1)</script>", False),
        ("text/plain", "a fox in the snow, 狐\n".encode(), True),
        ("text/plain", b"", True),
        ("text/plain", b"\xff\xfe", False),
        ("text/plain", b"a\0b", False),
        ("text/plain", b"x" * (MAX_TEXT_BYTES + 1), False),
    ],
)
async def test_a_file_is_what_its_media_type_says(
    store: ArtifactStore, media_type: str, data: bytes, is_taken: bool
) -> None:
    digest = hashlib.sha256(data).hexdigest()
    with nullcontext() if is_taken else pytest.raises(ArtifactRejected, match="are not like a file of"):
        await store.store(digest, media_type, chunks(data))
    assert (store.path(digest) is not None) == is_taken


def test_a_copy_of_a_file_is_named_by_its_kind() -> None:
    assert file_name("ab", "image/png") == "ab.png"
    assert file_name("ab", "text/plain") == "ab.txt"
    assert file_name("ab", "application/x-unheard-of") == "ab.bin"


@pytest.mark.parametrize("name", ["", "..", "/etc/passwd", "a" * 63, "a" * 65, "incoming", "%2e%2e", "g" * 64])
def test_only_digests_are_looked_up(store: ArtifactStore, name: str) -> None:
    assert store.path(name) is None


async def test_an_upload_that_breaks_off_leaves_nothing(store: ArtifactStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PNG[:100]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await store.store(DIGEST, "image/png", broken())
    assert files(store) == []


def test_what_a_killed_service_left_behind_is_removed_at_start(tmp_path: Path) -> None:
    incoming = tmp_path / "artifacts" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "half").write_bytes(PNG[:10])
    ArtifactStore(tmp_path / "artifacts")
    assert list(incoming.iterdir()) == []


async def test_file_and_folder_are_synced_before_the_store_says_so(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append("sync " + os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b)))
    await store.store(DIGEST, "image/png", chunks(PNG))
    assert "incoming" in steps[0]
    assert steps[1] == "rename"
    assert steps[2].endswith(f"/{DIGEST[:2]}")
    assert steps[3].endswith("/artifacts")


async def test_a_picture_is_stored_by_its_own_digest_and_known_for_what_it_is(store: ArtifactStore) -> None:
    data = saved("JPEG", 33, 21)
    kept, is_new = await store.store_picture("image/jpeg", chunks(data, 100))
    assert (kept.digest, kept.bytes, is_new) == (hashlib.sha256(data).hexdigest(), len(data), True)
    assert store.picture(kept.digest) == Picture(media_type="image/jpeg", width=33, height=21)
    assert (await store.store_picture("image/jpeg", chunks(data)))[1] is False
    assert files(store) == [kept.digest]


@pytest.mark.parametrize(
    ("media_type", "data", "says"),
    [
        ("image/png", b"", "no PNG, JPEG or WebP picture"),
        ("image/png", saved("PNG")[:-1], "cut off"),
        ("image/png", saved("WEBP"), "the bytes are image/webp, not image/png"),
    ],
)
async def test_what_is_no_whole_picture_of_its_type_is_not_kept(
    store: ArtifactStore, media_type: str, data: bytes, says: str
) -> None:
    with pytest.raises(ArtifactRejected, match=says):
        await store.store_picture(media_type, chunks(data))
    assert files(store) == []


async def test_a_file_that_is_no_picture_and_one_that_is_not_there_are_no_pictures(store: ArtifactStore) -> None:
    await store.store(DIGEST, "image/png", chunks(PNG))
    assert store.picture(DIGEST) is None
    assert store.picture("0" * 64) is None
    assert store.picture("../log.db") is None
