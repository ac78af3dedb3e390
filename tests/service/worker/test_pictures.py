"""The embedded model through a real worker: pictures, previews, uploads. One worker for most, its start is dear."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import protocol as say
from service.tasks.text_to_image import TextToImage
from tests.service.worker.conftest import StartWorker, Worker
from tests.service.worker.peer import Peer, Talk

RED_ON_BLUE = "a large red circle on a blue background"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Worker]]:
    """A peer and a warm worker that are shared by the tests of this file."""
    peer = Peer()
    worker = Worker(peer.url, tmp_path_factory.mktemp("studio") / "spool", "--threads", "1")
    yield peer, worker
    worker.end()
    peer.close()


@pytest.fixture
def talk(studio: tuple[Peer, Worker]) -> Talk:
    """The newest session, with credit."""
    peer, _ = studio
    talk = peer.talk(max(1, len(peer.talks)))
    if any(message.slots == 0 for message in talk.all(say.Ready)[-1:]):
        talk.expect(say.Ready, lambda ready: ready.slots > 0)
    return talk


def test_a_picture_has_the_colours_that_were_asked_for(studio: tuple[Peer, Worker], talk: Talk) -> None:
    peer, _ = studio
    talk.draw("red", token=21, prompt=RED_ON_BLUE)
    (artifact,) = talk.expect(say.Completed).artifacts
    upload = next(upload for upload in peer.uploads if upload.digest == artifact.digest)
    picture = np.asarray(Image.open(io.BytesIO(upload.body)))
    red, corner = picture[256, 256], picture[20, 20]
    assert (artifact.media_type, artifact.width, artifact.height) == ("image/png", 512, 512)
    assert artifact.bytes == len(upload.body)
    assert picture.shape == (512, 512, 3)
    assert red[0] > red[2] + 60, red
    assert corner[2] > corner[0] + 60, corner
    assert (upload.query, upload.authorization) == (
        {"job": "red", "attempt": "1", "token": "21"},
        "Bearer test-key",
    )


def test_the_file_says_how_it_was_made(studio: tuple[Peer, Worker], talk: Talk) -> None:
    peer, _ = studio
    talk.draw("told", prompt=RED_ON_BLUE, negative_prompt="grün", seed=3, steps=8)
    (artifact,) = talk.expect(say.Completed).artifacts
    upload = next(upload for upload in peer.uploads if upload.digest == artifact.digest)
    texts = Image.open(io.BytesIO(upload.body)).info
    ours = json.loads(texts["safelight"])
    assert texts["parameters"] == (
        f"{RED_ON_BLUE}\nNegative prompt: grün\n"
        "Steps: 8, Sampler: DDIM, CFG scale: 2, Seed: 3, Size: 512x512, Model: demo"
    )
    assert (ours["job"], ours["attempt"], ours["model"]) == ("told", 1, "demo")
    assert ours["params"]["negative_prompt"] == "grün"


def test_the_facts_are_what_a_rerun_needs(talk: Talk) -> None:
    talk.draw("facts", prompt=RED_ON_BLUE, seed=11, steps=8)
    facts = talk.expect(say.Completed).facts
    assert (facts["seed"], facts["dtype"], facts["device"]) == (11, "float32", "cpu")
    assert (facts["native_width"], facts["native_height"]) == (64, 64)
    assert facts["batch"] == {
        "steps": {"2": 8}, "beside": [], "share_s": facts["batch"]["share_s"], "others_s": 0.0
    }  # fmt: skip
    assert facts["scheduler"]["class"] == "DDIMScheduler"
    assert facts["scheduler"]["prediction_type"] == "v_prediction"
    assert {"torch", "diffusers", "transformers", "safelight"} <= set(facts["versions"])
    assert {"preparing", "denoising", "decoding", "exporting", "step_s"} <= set(facts["timings"])
    assert facts["timings"]["step_s"] == pytest.approx(facts["timings"]["denoising"] / 8, rel=0.5)


def test_phases_come_in_the_order_of_the_task(talk: Talk) -> None:
    talk.draw("phases", prompt=RED_ON_BLUE, steps=4)
    talk.expect(say.Completed)
    phases = [phase.phase for phase in talk.all(say.Phase) if phase.job == "phases"]
    assert phases == [phase for phase in TextToImage.PHASES if phase != "loading_model"]


def test_previews_come_only_while_somebody_looks(talk: Talk) -> None:
    talk.draw("unseen", prompt=RED_ON_BLUE)
    talk.expect(say.Completed)
    assert talk.all(say.Preview) == []
    talk.send(say.Previews(wanted=True))
    talk.draw("seen", token=33, prompt=RED_ON_BLUE, steps=60)
    preview = talk.expect(say.Preview)
    talk.send(say.Previews(wanted=False))
    picture = Image.open(io.BytesIO(preview.data))
    assert (preview.job, preview.token, preview.media_type) == ("seen", 33, "image/jpeg")
    assert picture.size == (preview.width, preview.height) == (256, 256)
    assert len(preview.data) < 64 << 10
    talk.expect(say.Completed)


def test_credit_comes_back_before_the_result_is_delivered(studio: tuple[Peer, Worker], talk: Talk) -> None:
    peer, _ = studio
    peer.upload_status = 503
    talk.draw("first", prompt=RED_ON_BLUE, steps=4)
    talk.draw("second", prompt=RED_ON_BLUE, steps=4, seed=8)
    talk.expect(say.Phase, lambda phase: (phase.job, phase.phase) == ("second", "exporting"))
    assert not [done for done in talk.all(say.Completed) if done.job in ("first", "second")]
    peer.upload_status = 201
    assert {talk.expect(say.Completed).job, talk.expect(say.Completed).job} == {"first", "second"}


def test_a_cancelled_job_stops_early_and_the_next_picture_is_unharmed(
    studio: tuple[Peer, Worker], talk: Talk
) -> None:
    talk.draw("before", prompt=RED_ON_BLUE, seed=5)
    talk.expect(say.Completed)
    talk.draw("cancelled", token=50, prompt=RED_ON_BLUE, steps=150)
    seen = talk.expect(say.Progress, lambda progress: progress.job == "cancelled" and progress.step >= 2)
    talk.send(say.Cancel(job="cancelled", attempt=1, token=50))
    assert seen.step <= talk.expect(say.Stopped).step < 150
    talk.draw("after", prompt=RED_ON_BLUE, seed=5)
    talk.expect(say.Completed)
    before, after = (_pixels(studio[0], job) for job in ("before", "after"))
    assert np.array_equal(before, after)


def test_a_stale_upload_is_dropped(studio: tuple[Peer, Worker], talk: Talk) -> None:
    peer, worker = studio
    peer.upload_statuses = [409]
    talk.draw("stale", prompt=RED_ON_BLUE, steps=4)
    talk.draw("next", prompt=RED_ON_BLUE, steps=4)
    assert talk.expect(say.Completed).job == "next"
    assert _is_empty(peer, worker)


def test_an_upload_that_is_refused_for_good_fails_the_job(studio: tuple[Peer, Worker], talk: Talk) -> None:
    peer, worker = studio
    peer.upload_statuses = [413]
    talk.draw("large", prompt=RED_ON_BLUE, steps=4)
    failed = talk.expect(say.Failed)
    assert (failed.job, failed.kind) == ("large", "internal")
    assert "413" in failed.message
    assert _is_empty(peer, worker)


def test_a_result_on_disk_is_delivered_by_the_next_agent(
    peer: Peer, start_worker: StartWorker, tmp_path: Path
) -> None:
    peer.upload_status = 503
    worker = start_worker("--model", "demo", "--threads", "1")
    peer.talk().draw("j1", token=5, prompt=RED_ON_BLUE, steps=4)
    refused = peer.wait(lambda: next(iter(peer.uploads), None), "an upload")
    worker.end()
    (tmp_path / "spool" / "results" / "leftover.png").write_bytes(b"half a file")
    peer.upload_status = 201
    peer.verdict = lambda held: say.Verdict(job=held.job, attempt=held.attempt, keep=True, token=66)
    next_worker = start_worker("--model", "demo", "--no-preload")
    second = peer.talk(2)
    assert [(held.job, held.token) for held in second.hello.running] == [("j1", 5)]
    completed = second.expect(say.Completed)
    assert (completed.token, completed.artifacts[0].digest) == (66, refused.digest)
    assert peer.uploads[-1].query["token"] == "66"
    assert peer.uploads[-1].body == refused.body
    assert _is_empty(peer, next_worker)


def _pixels(peer: Peer, job: str) -> np.ndarray:
    (upload,) = (upload for upload in peer.uploads if upload.query["job"] == job)
    return np.asarray(Image.open(io.BytesIO(upload.body)))


def _is_empty(peer: Peer, worker: Worker) -> bool:
    """Whether the worker's results folder becomes empty."""
    results = worker.log.with_suffix("") / "results"
    return peer.wait(lambda: not any(results.iterdir()) or None, "an empty results folder")
