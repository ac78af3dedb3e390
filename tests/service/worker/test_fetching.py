"""Pictures that attempts start from, over real processes: when the child begins, and what ends the fetching."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service import protocol as say
from tests.service.worker.conftest import StartWorker
from tests.service.worker.peer import Peer, Talk, drop

PICTURE = b"no picture, but bytes"
DIGEST = hashlib.sha256(PICTURE).hexdigest()
UNREACHABLE = [503] * 1000


@pytest.fixture
def talk(peer: Peer, start_worker: StartWorker) -> Talk:
    start_worker("--model", "demo", "--no-preload")
    return peer.talk()


def begin(talk: Talk, job: str, token: int = 10) -> None:
    params = {"prompt": "a star", "seed": 1, "steps": 1, "guidance": 1.0, "width": 512, "height": 512}
    talk.offer(job, "image-to-image", "demo", 1, token, {**params, "image": DIGEST})


def fetched(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "spool" / "inputs").iterdir())


def waited_for(peer: Peer, is_there: Callable[[], bool], what: str) -> None:
    assert peer.wait(lambda: is_there() or None, what)


def test_the_child_opens_what_was_fetched_and_the_file_goes_with_the_attempt(
    peer: Peer, talk: Talk, tmp_path: Path
) -> None:
    peer.pictures[DIGEST] = PICTURE
    begin(talk, "j1")
    failed = talk.expect(say.Failed)
    assert (failed.kind, peer.fetches[0].digest) == ("invalid-input", DIGEST)
    assert "params.image cannot be opened" in failed.message
    waited_for(peer, lambda: not fetched(tmp_path), "the fetched file to go")


def test_a_cancel_ends_the_fetching_at_once(peer: Peer, talk: Talk, tmp_path: Path) -> None:
    peer.fetch_statuses = list(UNREACHABLE)
    begin(talk, "j1", token=8)
    waited_for(peer, lambda: len(peer.fetches) > 1, "a second try")
    asked_at = time.monotonic()
    talk.send(say.Cancel(job="j1", attempt=1, token=8))
    assert talk.expect(say.Stopped).job == "j1"
    assert time.monotonic() - asked_at < 5
    tries = len(peer.fetches)
    talk.expect(say.Ready, lambda ready: ready.slots > 0)
    assert len(peer.fetches) <= tries + 1
    assert fetched(tmp_path) == []


def test_no_further_job_is_taken_while_one_fetches(peer: Peer, talk: Talk) -> None:
    peer.fetch_statuses = list(UNREACHABLE)
    begin(talk, "j1")
    waited_for(peer, lambda: bool(peer.fetches), "a try")
    assert [ready.slots for ready in talk.all(say.Ready)] in ([1], [1, 0]), "but one that others stand back for"


def test_a_picture_that_is_gone_fails_the_job_with_what_to_do(talk: Talk) -> None:
    begin(talk, "j1")
    failed = talk.expect(say.Failed)
    assert failed.kind == "invalid-input"
    assert "upload it again" in failed.message


def test_an_attempt_found_stale_is_dropped_without_a_word(peer: Peer, talk: Talk) -> None:
    peer.fetch_statuses = [409]
    begin(talk, "j1")
    talk.expect(say.Ready, lambda ready: ready.slots > 0)
    assert not [said for said in talk.received if isinstance(said, say.Reported)]


def test_an_attempt_not_kept_after_a_reconnect_is_not_fetched_for(peer: Peer, talk: Talk) -> None:
    peer.fetch_statuses = list(UNREACHABLE)
    begin(talk, "j1")
    waited_for(peer, lambda: bool(peer.fetches), "a try")
    peer.verdict = drop
    talk.cut()
    again = peer.talk(2)
    assert [held.job for held in again.hello.running] == ["j1"]
    begin(again, "j2")
    waited_for(peer, lambda: [asked.query["job"] for asked in peer.fetches].count("j2") > 1, "tries for the next")
    jobs = [asked.query["job"] for asked in peer.fetches]
    assert set(jobs[jobs.index("j2") :]) == {"j2"}
