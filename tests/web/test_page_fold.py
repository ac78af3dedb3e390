"""The page's own fold (js/fold.js, store.js) against the service's: any history must read the same in both."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import apsw
import msgspec
import pytest
from playwright.sync_api import Page

from events.envelope import TYPES, Draft, Record
from events.jobs import ArtifactRef, JobError, JobExpired, JobLeased, JobRequeued
from events.queues import QueuePruned, Rules
from events.workers import WorkerQuarantined
from projections.jobs import JobView, fold_view
from projections.live import LiveState
from projections.queues import QueuesProjection, all_queues
from projections.workers import WorkersProjection, all_workers
from service import commands as ask
from service.refusals import Refusal
from service.scheduling.ranks import Ranks
from service.tasks.catalog import EMBEDDED
from tests.history import PRETEND, Held, History, register, submission
from tests.service_process import running_service
from tests.web.browser import running_chromium, watched_page
from web.resources import event_resource, job_resource, queue_resource, worker_resource

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

COMMANDS = 300
STORIES = 16
FILES = (
    ArtifactRef(digest="ab" * 32, media_type="image/png", bytes=1234, width=512, height=512),
    ArtifactRef(digest="cd" * 32, media_type="video/mp4", bytes=1, width=64, height=48, frames=9, fps=23.976),
    ArtifactRef(digest="ef" * 32, media_type="audio/flac", bytes=1, seconds=1.5, sample_rate_hz=44_100),
    ArtifactRef(digest="01" * 32, media_type="text/plain", bytes=1),
)

READ_IN_THE_PAGE = """async (frames) => {
    const { Store } = await import("/static/js/store.js");
    const store = new Store();
    for (const frame of frames) store.take(frame);
    const shown = (job) => ({ ...job, rank: store.rank(job), blocked: store.blocked(job), eta: store.eta(job) });
    const jobs = [...store.jobs.values()].map(shown);
    return {
        jobs: Object.fromEntries(jobs.map((job) => [job.id, job])),
        lines: Object.fromEntries([...store.lines].map(([name, line]) => [name, line.jobs.map(({ id }) => id)])),
        running: [...store.running.keys()].sort(),
        finished: store.finished().map(({ id }) => id),
        aside: [...store.aside.keys()].sort(),
        queues: [...store.queues.values()],
        workers: [...store.workers.values()],
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
        acts = {
            self.submit: 4, self.batch: 1, self.lease: 8, self.report: 5, self.end: 5, self.ask_of_job: 3,
            self.place: 4, self.edit: 2, self.wait: 3, self.worker: 2, self.queue: 2,
        }  # fmt: skip
        for _ in range(COMMANDS):
            with suppress(Refusal):
                self.dice.choices(list(acts), list(acts.values()))[0]()

    def submit(self) -> None:
        self.history.ask(self._submission())

    def batch(self) -> None:
        """Several at once, of which each may have to wait for something else."""
        jobs = tuple(self._submission(queue="other") for _ in range(self.dice.randint(1, 3)))
        self.history.ask(ask.SubmitBatch(batch=f"batch-{len(self.jobs)}", jobs=jobs))

    def _submission(self, **fields: Any) -> ask.SubmitJob:
        job, now = f"job-{len(self.jobs)}", self.history.at_us
        fields = {"queue": self.dice.choice(["default", "other"]), **fields}
        if self.dice.random() < 0.4:
            fields |= {"task": "text-to-image", "params": {"prompt": f"<b>{job}</b>", "steps": 3}}
        if self.dice.random() < 0.3:
            fields |= {"tags": ("a",), "metadata": {"order": "7"}, "submitter": "bob", "is_background": True}
        for name, odds in (("not_before_us", 0.2), ("start_deadline_us", 0.1), ("finish_deadline_us", 0.1)):
            if self.dice.random() < odds:
                fields[name] = now + self.dice.randint(3_000_001, 90_000_000)
        self.jobs.append(job)
        return submission(job, priority=self.dice.choice([50, 50, 80]), is_held=self.dice.random() < 0.1, **fields)

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
        words = self._held().words()
        kind = self.dice.choice(["crash", "out-of-memory", "internal", "invalid-input"])
        error = JobError(kind=kind, message="the pipeline raised", detail="Traceback")  # type: ignore[arg-type]
        command: ask.Command = self.dice.choice(
            [
                ask.CompleteJob(artifacts=(self.dice.choice(FILES),), facts={"denoising_s": 0.25}, **words),
                ask.FailAttempt(error=error, **words),
                ask.FailAttempt(error=error, **words),
                ask.ConfirmStop(step=2, **words),
            ]
        )
        self.history.ask(command)

    def ask_of_job(self) -> None:
        job = self._job()
        attempt = self.dice.randint(1, 3)
        self.history.ask(
            self.dice.choice(
                [ask.CancelJob(job=job), ask.RetryJob(job=job), ask.ExpireLease(job=job, attempt=attempt)]
            )
        )

    def place(self) -> None:
        """Out of line, back into it, or elsewhere in it."""
        job, other = self._job(), self._job()
        where = self.dice.choice(["top", "bottom", "before", "after"])
        move = ask.MoveJob(job=job, where=where, other=other)  # type: ignore[arg-type]
        self.history.ask(self.dice.choice([ask.HoldJob(job=job), ask.ReleaseJob(job=job), move, move]))

    def edit(self) -> None:
        changes: dict[str, Any] = self.dice.choice(
            [
                {"priority": 80, "tags": ("b", "c")},
                {"queue": "other", "metadata": {"order": "8"}},
                {"is_background": self.dice.random() < 0.5, "params": {"steps": 5}},
            ]
        )
        self.history.ask(ask.EditJob(job=self._job(), seed=5, **changes))

    def wait(self) -> None:
        self.history.wait(self.dice.choice([1.0, 5.0, 20.0]))

    def worker(self) -> None:
        """Come back, with or without what it had, as the same process or a new one; be lost; or be released."""
        name = self.dice.choice(list(self.boots))
        luck = self.dice.random()
        if luck < 0.3:
            self.history.ask(ask.LoseWorker(worker=name, boot=f"b{self.boots[name]}", reason="disconnected"))
            return
        if luck < 0.45:
            self.history.ask(ask.ReleaseWorker(worker=name))
            return
        self.boots[name] += self.dice.random() < 0.3
        held = tuple(ask.HeldAttempt(**held.words()) for held in self.leases if self.dice.random() < 0.7)
        models = self.dice.choice([PRETEND, PRETEND, {"text-to-image": ("demo",), **PRETEND}])
        self.history.ask(register(name, f"b{self.boots[name]}", held, models))

    def queue(self) -> None:
        name = self.dice.choice(["default", "other"])
        rules = Rules(policy=self.dice.choice(["fifo", "fair"]), capacity=self.dice.choice([None, 40]))  # type: ignore[arg-type]
        through = self.dice.randint(0, self.history.head())
        self.history.ask(
            self.dice.choice(
                [
                    ask.PauseQueue(queue=name),
                    ask.PauseQueue(queue=name, reason="crash"),
                    ask.DrainQueue(queue=name),
                    ask.ResumeQueue(queue=name),
                    ask.ResumeQueue(queue=name),
                    ask.ConfigureQueue(queue=name, rules=rules),
                    ask.PruneQueue(queue=name, through=through),
                ]
            )
        )

    def _job(self) -> str:
        return self.dice.choice(self.jobs or ["nobody"])

    def _held(self) -> Held:
        return self.dice.choice(self.leases) if self.leases else Held("nobody", 1, 1)


class Folded:
    """What the service makes of some records: live state, and the views."""

    def __init__(self, records: Sequence[Record]) -> None:
        connection = apsw.Connection(":memory:")
        for projection in (QueuesProjection(), WorkersProjection()):
            connection.execute(projection.schema)
            projection.apply(connection, records)
        self.state = LiveState()
        self.views: dict[str, JobView] = {}
        for record in records:
            self.state.apply(record)
            if record.category == "job":
                self.views[record.subject] = fold_view(self.views.get(record.subject), record)
            elif isinstance(record.event, QueuePruned):
                self._prune(record.event)
        self.queues = [as_json(queue_resource(view, {})) for view in all_queues(connection)]
        boots = {name: worker.boot for name, worker in self.state.workers.items()}  # as if all were connected
        self.workers = [
            as_json(worker_resource(view, self.state, boots)) | {"running": []} for view in all_workers(connection)
        ]

    def _prune(self, event: QueuePruned) -> None:
        def is_kept(view: JobView) -> bool:
            return view.queue != event.name or not 0 < (view.finished_position or 0) <= event.through

        self.views = {job: view for job, view in self.views.items() if is_kept(view)}

    def jobs(self) -> list[Any]:
        """Every job as the API shows it, newest submission first."""
        newest_first = sorted(self.views.values(), key=lambda view: -view.submitted_position)
        ranks = Ranks(self.state, EMBEDDED)
        return [as_json(job_resource(view, self.state, ranks, {}, lambda job: None)) for view in newest_first]

    def lines(self) -> dict[str, list[str]]:
        return {name: list(queue.order) for name, queue in self.state.queues.items() if len(queue.order)}

    def in_status(self, *statuses: str) -> list[str]:
        return sorted(view.id for view in self.views.values() if view.status in statuses)


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


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
    at = Folded(records)
    return {
        "op": "snapshot", "as_of": len(records), "jobs": at.jobs(), "queues": at.queues, "workers": at.workers,
        "last": True,
    }  # fmt: skip


HELLO = {"op": "hello", "epoch": "history", "head": 0, "oldest": 1, "session": "s", "server": "safelight/test"}


def by_name(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {one["name"]: one for one in found}


@pytest.mark.parametrize("seed", range(STORIES))
def test_the_page_folds_every_history_as_the_service_does(page: Page, seed: int) -> None:
    records = Story(seed).history.records
    read = page.evaluate(READ_IN_THE_PAGE, [HELLO, snapshot([]), *event_frames(records, random.Random(seed))])
    whole = Folded(records)
    assert read["jobs"] == {job["id"]: job for job in whole.jobs()}
    assert {name: line for name, line in read["lines"].items() if line} == whole.lines()
    assert read["running"] == whole.in_status("running")
    assert read["aside"] == whole.in_status("scheduled", "held")
    ended = [view for view in whole.views.values() if view.finished_position is not None]
    assert read["finished"] == [v.id for v in sorted(ended, key=lambda v: -(v.finished_position or 0))]
    assert by_name(read["queues"]) == by_name(whole.queues)
    assert by_name(read["workers"]) == by_name(whole.workers)
    assert read["missing"] == []
    assert read["position"] == len(records)


@pytest.mark.parametrize("seed", range(STORIES // 2))
def test_a_snapshot_and_the_events_behind_it_are_the_whole_history(page: Page, seed: int) -> None:
    records, dice = Story(seed).history.records, random.Random(seed)
    cut = dice.randint(len(records) // 4, len(records))
    # After a lost connection events from before the snapshot may come again: they must change nothing.
    again = event_frames(records[max(0, cut - 20) :], dice)
    read = page.evaluate(READ_IN_THE_PAGE, [HELLO, snapshot(records[:cut]), *again, *again])
    whole = Folded(records)
    assert read["jobs"] == {job["id"]: job for job in whole.jobs()}
    assert {name: line for name, line in read["lines"].items() if line} == whole.lines()
    assert by_name(read["queues"]) == by_name(whole.queues)
    assert by_name(read["workers"]) == by_name(whole.workers)


def test_estimates_are_kept_while_they_hold(page: Page) -> None:
    history = History().with_queue().with_worker()
    history.submit("waits")
    history.submit("held")
    history.ask(ask.HoldJob(job="held"))
    told = {"start_at": None, "done_at": "2026-01-01T00:00:00.000000Z", "jobs_ahead": 0}
    pushed = [{"op": "eph", "kind": "eta", "job": job, "data": told} for job in ("waits", "held", "nobody")]
    frames = [HELLO, snapshot([]), *event_frames(history.records, random.Random(1)), pushed]
    shown = page.evaluate(READ_IN_THE_PAGE, frames)["jobs"]
    assert {job["id"]: job["eta"] for job in shown.values()} == {"waits": told, "held": None}
    history.ask(ask.ReleaseJob(job="held"))
    history.ask(ask.PauseQueue(queue="default"))
    released = event_frames(history.records[-2:-1], random.Random(1))
    assert page.evaluate(READ_IN_THE_PAGE, [*frames, *released])["jobs"]["held"]["eta"] == told
    paused = event_frames(history.records[-1:], random.Random(1))
    assert page.evaluate(READ_IN_THE_PAGE, [*frames, *released, *paused])["jobs"]["held"]["eta"] is None
    history.ask(ask.CancelJob(job="waits"))
    last = event_frames(history.records[-1:], random.Random(1))
    assert page.evaluate(READ_IN_THE_PAGE, [*frames, *released, *paused, *last])["jobs"]["waits"]["eta"] is None


def test_the_page_says_as_the_service_does_why_nobody_can_run_a_job(page: Page) -> None:
    nobody, other_task = History().with_queue(), History().with_queue().with_worker()
    other_model, quarantined = History().with_queue(), History().with_queue()
    other_model.ask(register(models={"text-to-image": ("large",)}))
    quarantined.ask(register(models={"text-to-image": ("demo",)}))
    quarantined.append([Draft(stream="worker/w", event=WorkerQuarantined(worker="w", jobs=("a",), why="crashes"))])
    said = set()
    for history in (nobody, other_task, other_model, quarantined):
        history.submit(task="text-to-image", params={"prompt": "a star"})
        frames = [HELLO, snapshot([]), *event_frames(history.records, random.Random(1))]
        (expected,) = Folded(history.records).jobs()
        assert page.evaluate(READ_IN_THE_PAGE, frames)["jobs"]["j"]["blocked"] == expected["blocked"]
        said.add(expected["blocked"])
    assert len(said) == 4
    assert None not in said


def test_the_stories_have_everything_that_can_happen() -> None:
    stories = [Story(seed).history for seed in range(STORIES)]
    events = [record.event for history in stories for record in history.records]
    kinds = {"job", "queue", "worker", "batch"}
    assert {event.type for event in events} == {name for name in TYPES if name.partition("-")[0] in kinds}
    assert any(isinstance(event, JobLeased) and event.adopted for event in events)
    assert any(isinstance(event, JobRequeued) and event.not_before_us for event in events)
    expired = {event.deadline for event in events if isinstance(event, JobExpired)}
    assert expired == {"start", "finish"}
