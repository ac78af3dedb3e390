"""The page's own fold (js/fold.js, store.js) against the service's: any history must read the same in both."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Page

from events.envelope import Record
from events.jobs import ArtifactRef, JobError
from projections.jobs import JobView, fold_view
from projections.live import LiveState
from service import commands as ask
from service.refusals import Refusal
from tests.history import Held, History, register, submission
from tests.service_process import running_service
from tests.web.browser import running_chromium, watched_page
from web.resources import event_resource, job_resource

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

COMMANDS = 150
PICTURE = ArtifactRef(digest="ab" * 32, media_type="image/png", bytes=1234, width=512, height=512)

READ_IN_THE_PAGE = """async (frames) => {
    const { Store } = await import("/static/js/store.js");
    const store = new Store();
    for (const frame of frames) store.take(frame);
    const jobs = [...store.jobs.values()].map(({ order, ...job }) => ({ ...job, rank: store.rank(job) }));
    return {
        jobs: Object.fromEntries(jobs.map((job) => [job.id, job])),
        lines: Object.fromEntries([...store.lines].map(([name, line]) => [name, line.jobs.map(({ id }) => id)])),
        running: [...store.running.keys()].sort(),
        finished: store.finished().map(({ id }) => id),
        paused: [...store.queues.values()].filter((queue) => queue.is_paused).map(({ name }) => name).sort(),
        lost: Object.fromEntries([...store.workers.values()].map(({ name, boot, lost }) => [name, [boot, lost]])),
        missing: [...store.missing],
        position: store.position,
    };
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        running_chromium() as browser,
        running_service(tmp_path_factory.mktemp("fold"), "--no-worker") as service,
        watched_page(browser, service.url) as watched,
    ):
        yield watched.open()


class Story:
    """A history of random commands, valid and not, with everything that can happen to a job."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.history = History().with_queue().with_queue("other").with_worker("w1").with_worker("w2")
        self.boots = {"w1": 1, "w2": 1}
        self.jobs: list[str] = []
        self.leases: list[Held] = []
        for _ in range(COMMANDS):
            with suppress(Refusal):
                self.dice.choices(
                    [self.submit, self.lease, self.report, self.end, self.ask_of_job, self.worker, self.queue],
                    [4, 6, 5, 4, 3, 2, 1],
                )[0]()

    def submit(self) -> None:
        job = f"job-{len(self.jobs)}"
        fields: dict[str, Any] = {"queue": self.dice.choice(["default", "other"]), "tags": ("a",)}
        if self.dice.random() < 0.5:
            fields |= {"task": "text-to-image", "params": {"prompt": f"<b>{job}</b>", "steps": 3}}
        priority = self.dice.choice([50, 50, 80])
        self.history.ask(submission(job, priority=priority, **fields))
        self.jobs.append(job)

    def lease(self) -> None:
        waiting = [job for queue in self.history.state.queues.values() for job in queue.order]
        if waiting:
            worker = self.dice.choice(list(self.boots))
            job = self.dice.choice(waiting)
            (record,) = self.history.ask(
                ask.LeaseJob(job=job, worker=worker, boot=f"b{self.boots[worker]}", lease_s=30.0)
            )
            self.leases.append(Held(job, self.history.state.jobs[job].attempt, record.position))

    def report(self) -> None:
        held, phase = self._held(), self.dice.choice(["loading_model", "preparing", "denoising"])
        self.history.ask(ask.ReportPhase(phase=phase, **held.words()))

    def end(self) -> None:
        words, kind = self._held().words(), self.dice.choice(["crash", "internal"])
        error = JobError(kind=kind, message="the pipeline raised", detail="Traceback")  # type: ignore[arg-type]
        command: ask.Command = self.dice.choice(
            [
                ask.CompleteJob(artifacts=(PICTURE,), facts={"denoising_s": 0.25}, **words),
                ask.FailAttempt(error=error, **words),
                ask.ConfirmStop(step=2, **words),
            ]
        )
        self.history.ask(command)

    def ask_of_job(self) -> None:
        job = self.dice.choice(self.jobs or ["nobody"])
        attempt = self.dice.randint(1, 3)
        self.history.ask(
            self.dice.choice(
                [ask.CancelJob(job=job), ask.RetryJob(job=job), ask.ExpireLease(job=job, attempt=attempt)]
            )
        )

    def worker(self) -> None:
        """Come back, with or without what it had, as the same process or a new one; or be lost."""
        name = self.dice.choice(list(self.boots))
        if self.dice.random() < 0.3:
            self.history.ask(ask.LoseWorker(worker=name, boot=f"b{self.boots[name]}", reason="disconnected"))
            return
        self.boots[name] += self.dice.random() < 0.3
        held = tuple(ask.HeldAttempt(**held.words()) for held in self.leases if self.dice.random() < 0.7)
        self.history.ask(register(name, f"b{self.boots[name]}", held))

    def queue(self) -> None:
        name = self.dice.choice(["default", "other"])
        self.history.ask(self.dice.choice([ask.PauseQueue(queue=name), ask.ResumeQueue(queue=name)]))

    def _held(self) -> Held:
        return self.dice.choice(self.leases) if self.leases else Held("nobody", 1, 1)


def folded(records: Sequence[Record]) -> tuple[LiveState, dict[str, JobView]]:
    """Live state and job views as the service folds them."""
    state, views = LiveState(), dict[str, JobView]()
    for record in records:
        state.apply(record)
        if record.category == "job":
            views[record.subject] = fold_view(views.get(record.subject), record)
    return state, views


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def resources(records: Sequence[Record]) -> list[Any]:
    """Every job as the API shows it, newest submission first."""
    state, views = folded(records)
    newest_first = sorted(views.values(), key=lambda view: -view.submitted_position)
    return [as_json(job_resource(view, state, {}, lambda job: None)) for view in newest_first]


def event_frames(records: Sequence[Record], dice: random.Random) -> list[list[Any]]:
    """The events as the push sends them: in frames of any size."""
    messages = [{"op": "event", **as_json(event_resource(record))} for record in records]
    frames = []
    while messages:
        size = dice.randint(1, 9)
        frames.append(messages[:size])
        messages = messages[size:]
    return frames


def snapshot(records: Sequence[Record]) -> dict[str, Any]:
    """The snapshot message of the state after `records`."""
    state, _ = folded(records)
    queues = [
        {"name": q.name, "is_paused": q.is_paused, "counts": {}, "created_at": ""} for q in state.queues.values()
    ]
    return {
        "op": "snapshot", "as_of": len(records), "jobs": resources(records), "queues": queues, "workers": [],
        "last": True,
    }  # fmt: skip


HELLO = {"op": "hello", "epoch": "history", "head": 0, "oldest": 1, "session": "s", "server": "safelight/test"}


@pytest.mark.parametrize("seed", range(12))
def test_the_page_folds_every_history_as_the_service_does(page: Page, seed: int) -> None:
    records = Story(seed).history.records
    read = page.evaluate(READ_IN_THE_PAGE, [HELLO, snapshot([]), *event_frames(records, random.Random(seed))])
    state, views = folded(records)
    expected = {job["id"]: job for job in resources(records)}
    assert read["jobs"] == expected
    assert {name: line for name, line in read["lines"].items() if line} == {
        name: list(queue.order) for name, queue in state.queues.items() if len(queue.order)
    }
    assert read["running"] == sorted(view.id for view in views.values() if view.status == "running")
    ended = [view for view in views.values() if view.finished_position is not None]
    assert read["finished"] == [v.id for v in sorted(ended, key=lambda v: -(v.finished_position or 0))]
    assert read["paused"] == sorted(name for name, queue in state.queues.items() if queue.is_paused)
    known = {name: read["lost"][name][0] for name in read["lost"] if read["lost"][name][1] is None}
    assert known == {worker.name: worker.boot for worker in state.workers.values()}
    assert read["missing"] == []
    assert read["position"] == len(records)


@pytest.mark.parametrize("seed", range(6))
def test_a_snapshot_and_the_events_behind_it_are_the_whole_history(page: Page, seed: int) -> None:
    records, dice = Story(seed).history.records, random.Random(seed)
    cut = dice.randint(len(records) // 4, len(records))
    # After a lost connection events from before the snapshot may come again: they must change nothing.
    again = event_frames(records[max(0, cut - 20) :], dice)
    read = page.evaluate(READ_IN_THE_PAGE, [HELLO, snapshot(records[:cut]), *again, *again])
    assert read["jobs"] == {job["id"]: job for job in resources(records)}
    state, _ = folded(records)
    assert {name: line for name, line in read["lines"].items() if line} == {
        name: list(queue.order) for name, queue in state.queues.items() if len(queue.order)
    }


def test_the_stories_have_everything_that_can_happen_to_a_job() -> None:
    types = {record.event.type for seed in range(12) for record in Story(seed).history.records}
    adopted = any(
        getattr(record.event, "adopted", False) for seed in range(12) for record in Story(seed).history.records
    )
    assert adopted
    assert {kind for kind in types if kind.startswith("job-")} == {
        "job-submitted", "job-leased", "job-phase-entered", "job-requeued", "job-cancel-requested",
        "job-completed", "job-failed", "job-cancelled", "job-retried",
    }  # fmt: skip
