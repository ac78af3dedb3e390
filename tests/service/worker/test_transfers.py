from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from service.worker.frames import SpooledFile
from service.worker.transfers import CHUNK_BYTES, TransferRefused, Transfers
from tests.service.worker.peer import Peer

BODY = b"picture" * 10


def deliver(peer: Peer, folder: Path, body: bytes = BODY, token: Callable[[], int] = lambda: 4) -> str:
    (folder / "a.png").write_bytes(body)
    file = SpooledFile(
        name="a.png", digest=hashlib.sha256(body).hexdigest(), media_type="image/png", bytes=len(body)
    )

    async def work() -> str:
        transfers = Transfers(peer.url, "test-key")
        try:
            return await transfers.deliver(folder / "a.png", file, "j/1", 2, token)
        finally:
            await transfers.close()

    return asyncio.run(work())


def test_the_file_goes_under_its_digest_with_attempt_and_token(peer: Peer, tmp_path: Path) -> None:
    assert deliver(peer, tmp_path) == "done"
    (upload,) = peer.uploads
    assert (upload.digest, upload.body) == (hashlib.sha256(BODY).hexdigest(), BODY)
    assert upload.query == {"job": "j/1", "attempt": "2", "token": "4"}
    assert (upload.media_type, upload.authorization) == ("image/png", "Bearer test-key")


def test_a_large_file_goes_in_pieces_and_arrives_whole(peer: Peer, tmp_path: Path) -> None:
    body = bytes(range(256)) * (CHUNK_BYTES // 100)
    assert deliver(peer, tmp_path, body) == "done"
    assert peer.uploads[0].body == body


def test_a_file_the_service_already_has_counts_as_stored(peer: Peer, tmp_path: Path) -> None:
    peer.upload_statuses = [200]
    assert deliver(peer, tmp_path) == "done"


def test_passing_failures_are_tried_again_with_the_token_of_the_moment(peer: Peer, tmp_path: Path) -> None:
    peer.upload_statuses = [500, 429, 507]
    tokens = iter([1, 2, 3, 4])
    assert deliver(peer, tmp_path, token=lambda: next(tokens)) == "done"
    assert [upload.query["token"] for upload in peer.uploads] == ["1", "2", "3", "4"]


def test_a_conflict_means_stale(peer: Peer, tmp_path: Path) -> None:
    peer.upload_statuses = [409]
    assert deliver(peer, tmp_path) == "stale"
    assert len(peer.uploads) == 1


def test_a_final_no_carries_the_services_words(peer: Peer, tmp_path: Path) -> None:
    peer.upload_statuses = [413]
    with pytest.raises(TransferRefused, match="413 answer 413"):
        deliver(peer, tmp_path)


DIGEST = hashlib.sha256(BODY).hexdigest()


def fetch(peer: Peer, folder: Path, digest: str = DIGEST, token: Callable[[], int] = lambda: 4) -> str:
    async def work() -> str:
        transfers = Transfers(peer.url, "test-key")
        try:
            return await transfers.fetch(folder / "input", digest, "j/1", 2, token)
        finally:
            await transfers.close()

    return asyncio.run(work())


def test_a_picture_is_fetched_with_attempt_and_token(peer: Peer, tmp_path: Path) -> None:
    peer.pictures[DIGEST] = BODY
    assert fetch(peer, tmp_path) == "done"
    assert (tmp_path / "input").read_bytes() == BODY
    (asked,) = peer.fetches
    assert (asked.query, asked.authorization) == (
        {"job": "j/1", "attempt": "2", "token": "4"},
        "Bearer test-key",
    )


def test_fetching_goes_on_through_passing_failures_with_the_token_of_the_moment(peer: Peer, tmp_path: Path) -> None:
    peer.pictures[DIGEST] = BODY
    peer.fetch_statuses = [500, 401, 429]
    tokens = iter([1, 2, 3, 4])
    assert fetch(peer, tmp_path, token=lambda: next(tokens)) == "done"
    assert [asked.query["token"] for asked in peer.fetches] == ["1", "2", "3", "4"]


def test_a_picture_that_arrives_damaged_is_fetched_again_but_not_for_ever(peer: Peer, tmp_path: Path) -> None:
    peer.pictures[DIGEST] = BODY[:-1]
    with pytest.raises(TransferRefused, match="the store's copy is damaged"):
        fetch(peer, tmp_path)
    assert len(peer.fetches) == 3


def test_a_picture_that_is_gone_and_one_that_is_no_longer_ours(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(TransferRefused, match="404"):
        fetch(peer, tmp_path)
    peer.fetch_statuses = [409]
    assert fetch(peer, tmp_path) == "stale"
