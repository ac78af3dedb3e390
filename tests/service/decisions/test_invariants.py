"""Random command sequences: whatever is asked, in whatever order, these things hold."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from events.envelope import Record
from events.jobs import JobCompleted, JobError, JobLeased
from projections.live import LiveState, fold_stream
from projections.store import ViewStore
from service import commands as ask
from service.refusals import Refusal
from service.scheduling.pick import pick
from tests.history import Held, History, register, submission

WORKERS = st.sampled_from(["w1", "w2", "w3"])
QUEUES = st.sampled_from(["default", "other"])


class Commands(RuleBasedStateMachine):
    """Every command of the service, in any order, valid or not."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.history = History().with_queue().with_queue("other")
        self.boots = {"w1": 0, "w2": 0, "w3": 0}
        self.submitted = 0

    def ask(self, command: ask.Command) -> list[Record]:
        before = (len(self.history.records), msgspec.msgpack.encode(self.history.state))
        try:
            return self.history.ask(command)
        except Refusal:
            assert before == (len(self.history.records), msgspec.msgpack.encode(self.history.state))
            return []

    @rule(target=jobs, queue=QUEUES, priority=st.integers(0, 100), key=st.sampled_from([None, "k1", "k2"]))
    def submit(self, queue: str, priority: int, key: str | None) -> str:
        self.submitted += 1
        job = f"job-{self.submitted}"
        self.ask(submission(job, queue=queue, priority=priority, idempotency_key=key, request_digest=queue))
        return job

    @rule(worker=WORKERS, restart=st.booleans(), held=st.lists(leases, max_size=3))
    def hello(self, worker: str, restart: bool, held: list[Held]) -> None:
        self.boots[worker] += restart
        said = tuple(ask.HeldAttempt(**h.words()) for h in held)
        self.ask(register(worker, str(self.boots[worker]), said))

    @rule(target=leases, worker=WORKERS)
    def lease_the_next(self, worker: str) -> Held:
        live = self.history.state.workers.get(worker)
        chosen = pick(self.history.state, live, 1, ()) if live is not None else []
        if live is None or not chosen:
            return Held("nobody", 1, 1)
        assert self.history.state.jobs[chosen[0]].status == "queued"
        return self.history.lease(chosen[0], worker, live.boot)

    @rule(target=leases, job=jobs, worker=WORKERS)
    def lease_any(self, job: str, worker: str) -> Held:
        command = ask.LeaseJob(job=job, worker=worker, boot=str(self.boots[worker]), lease_s=30.0)
        records = self.ask(command)
        return Held(job, self.history.state.jobs[job].attempt, records[-1].position) if records else Held(job, 1, 1)

    @rule(held=leases, phase=st.sampled_from(["preparing", "denoising"]))
    def phase(self, held: Held, phase: str) -> None:
        self.ask(ask.ReportPhase(phase=phase, **held.words()))

    @rule(held=leases)
    def complete(self, held: Held) -> None:
        self.ask(ask.CompleteJob(artifacts=(), facts={}, **held.words()))

    @rule(held=leases, kind=st.sampled_from(["crash", "internal", "out-of-memory"]))
    def fail(self, held: Held, kind: str) -> None:
        self.ask(ask.FailAttempt(error=JobError(kind=kind, message="m"), **held.words()))  # type: ignore[arg-type]

    @rule(held=consumes(leases), step=st.integers(0, 50))
    def stopped(self, held: Held, step: int) -> None:
        self.ask(ask.ConfirmStop(step=step, **held.words()))

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self.ask(ask.CancelJob(job=job))

    @rule(job=jobs)
    def retry(self, job: str) -> None:
        self.ask(ask.RetryJob(job=job))

    @rule(job=jobs, attempt=st.integers(1, 4))
    def expire(self, job: str, attempt: int) -> None:
        self.ask(ask.ExpireLease(job=job, attempt=attempt))

    @rule(worker=WORKERS)
    def lose(self, worker: str) -> None:
        self.ask(ask.LoseWorker(worker=worker, boot=str(self.boots[worker]), reason="lease-expired"))

    @rule(queue=QUEUES, pause=st.booleans())
    def pause_or_resume(self, queue: str, pause: bool) -> None:
        self.ask(ask.PauseQueue(queue=queue) if pause else ask.ResumeQueue(queue=queue))

    @invariant()
    def every_waiting_job_stands_in_one_line_and_no_other_job_does(self) -> None:
        state = self.history.state
        standing = [job for queue in state.queues.values() for job in queue.order]
        assert sorted(standing) == sorted(j.id for j in state.jobs.values() if j.status == "queued")
        assert {j.id: j.worker for j in state.jobs.values() if j.status == "running"} == state.running

    @invariant()
    def ranks_are_dense_and_lines_are_in_order(self) -> None:
        for queue in self.history.state.queues.values():
            places = queue.order.places
            assert places == sorted(places)
            assert [queue.order.rank(place) for place in places] == list(range(1, len(places) + 1))

    @invariant()
    def live_state_says_what_each_stream_says(self) -> None:
        state = self.history.state
        for number in range(1, self.submitted + 1):
            job = fold_stream(self.history.stream(f"job/job-{number}"))
            live = state.jobs.get(f"job-{number}")
            if live is not None:
                assert job == live
            else:
                assert job is None or job.status in ("completed", "failed", "cancelled")

    def teardown(self) -> None:
        records = self.history.records
        self._tokens_only_grow(records)
        self._a_job_completes_once_unless_it_is_retried(records)
        self._folding_in_parts_is_folding_at_once(records)
        self._views_folded_live_are_views_folded_from_scratch()

    def _tokens_only_grow(self, records: list[Record]) -> None:
        attempts: dict[str, int] = {}
        for record in records:
            if isinstance(record.event, JobLeased):
                least = attempts.get(record.subject, 0) + (not record.event.adopted)
                assert record.event.attempt >= least
                attempts[record.subject] = record.event.attempt

    def _a_job_completes_once_unless_it_is_retried(self, records: list[Record]) -> None:
        completed = [r.subject for r in records if isinstance(r.event, JobCompleted)]
        assert len(completed) == len(set(completed)), "a completed job cannot be retried, so it completes once"

    def _folding_in_parts_is_folding_at_once(self, records: list[Record]) -> None:
        cut = len(records) // 2
        part = LiveState()
        for record in records[:cut]:
            part.apply(record)
        part = msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=LiveState)
        for record in records[cut:]:
            part.apply(record)
        assert part == self.history.state

    def _views_folded_live_are_views_folded_from_scratch(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            live = ViewStore(Path(folder) / "live.db", _prefix(self.history, 0))  # type: ignore[arg-type]
            for start in range(0, len(self.history.records), 7):
                live.apply(self.history, self.history.records[start : start + 7])  # type: ignore[arg-type]
            scratch = ViewStore(Path(folder) / "scratch.db", self.history)  # type: ignore[arg-type]
            assert rows(live) == rows(scratch)
            live.close()
            scratch.close()


def rows(store: ViewStore) -> dict[str, list[tuple[object, ...]]]:
    """Everything a views file holds, but for counts that came back to zero."""
    reader = store.reader()
    tables = [
        name for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    ]
    content = {str(table): reader.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    content["job_counts"] = [row for row in content["job_counts"] if row[2] != 0]
    return content


def _prefix(history: History, length: int) -> History:
    shorter = copy.copy(history)
    shorter.records = history.records[:length]
    return shorter


Commands.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestCommands = Commands.TestCase
