"""The body of a delivery: made from the log alone, the same each time, and nothing private in it."""

from __future__ import annotations

import msgspec
import pytest

from events.envelope import TYPES
from events.jobs import JobError
from service import commands as ask
from service.webhooks.payload import body_of, dotted
from tests.history import History
from tests.service.webhooks.desk import PNG


@pytest.fixture
def history() -> History:
    history = History().with_queue().with_worker()
    history.submit("j", task=None, params={"prompt": "a private fox"}, tags=("t",), priority=60)
    return history


def test_a_completed_job_names_its_files_by_path_and_never_its_prompt(history: History) -> None:
    held = history.lease("j")
    history.ask(ask.CompleteJob(artifacts=(PNG,), facts={"device": "cpu"}, **held.words()))
    body = body_of(history.read_stream("job/j"))
    assert b"fox" not in body
    assert msgspec.json.decode(body) == {
        "type": "job.completed",
        "timestamp": "1970-01-01T00:00:06.000000Z",
        "data": {
            "id": "j", "status": "completed", "queue": "default", "task": "text-to-image", "model": "demo",
            "priority": 60, "tags": ["t"], "metadata": {}, "batch": None, "submitter": "ann", "attempts": 1,
            "created_at": "1970-01-01T00:00:04.000000Z", "started_at": "1970-01-01T00:00:05.000000Z",
            "finished_at": "1970-01-01T00:00:06.000000Z", "error": None, "position": 5,
            "artifacts": [{"digest": PNG.digest, "media_type": "image/png", "bytes": 9, "width": 8, "height": 8,
                           "url": f"/v1/artifacts/{PNG.digest}"}],
        },
    }  # fmt: skip


def test_a_failed_job_says_why_without_the_traceback(history: History) -> None:
    held = history.lease("j")
    error = JobError(kind="out-of-memory", message="too large", detail="Traceback at /home/somebody")
    history.ask(ask.FailAttempt(error=error, **held.words()))
    body = body_of(history.read_stream("job/j"))
    assert msgspec.json.decode(body)["data"]["error"] == {"kind": "out-of-memory", "message": "too large"}
    assert b"somebody" not in body


def test_a_body_tells_of_its_event_whatever_came_after(history: History) -> None:
    before = body_of(history.read_stream("job/j"))
    history.ask(ask.CancelJob(job="j"))
    records = history.read_stream("job/j")
    assert body_of(records[:1]) == before
    assert msgspec.json.decode(before)["data"]["status"] == "queued"
    assert msgspec.json.decode(body_of(records))["data"]["status"] == "cancelled"


def test_every_event_type_has_a_name_as_the_specification_has_them() -> None:
    assert (dotted("job-completed"), dotted("job-cancel-requested")) == ("job.completed", "job.cancel_requested")
    assert len({dotted(name) for name in TYPES}) == len(TYPES)
