"""Random command sequences: whatever is asked, in whatever order, these things hold."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from events.envelope import Record
from events.jobs import JobCompleted, JobError, JobLeased, JobRetried
from events.keys import Limits
from events.queues import Rules
from projections.live import LiveState
from projections.live_job import FINISHED, WAITING, fold_stream
from projections.store import ViewStore
from service import commands as ask
from service.refusals import LimitReached, QueueFull, Refusal
from service.scheduling.eligible import can_run, why_nobody
from service.scheduling.pick import MAX_PASSED, pick
from service.scheduling.ranks import Ranks
from service.tasks.catalog import EMBEDDED
from tests.history import PRETEND, Held, History, register, submission

WORKERS = st.sampled_from(["w1", "w2", "w3"])
QUEUES = st.sampled_from(["default", "other"])
SUBMITTERS = st.sampled_from(["ann", "key/k1", "key/k2"])
MODELS = {"pretend": ("pretend",), "text-to-image": ("demo",)}
IN_S = st.one_of(st.none(), st.floats(1, 200))
BRINGS = (ask.SubmitJob, ask.SubmitBatch, ask.RetryJob, ask.EditJob)


class Commands(RuleBasedStateMachine):
    """Every command of the service, in any order, valid or not."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.history = History().with_queue().with_queue("other")
        for key in ("k1", "k2"):
            self.ask(ask.CreateKey(key=key, name=key, scopes=("submitter",), secret_digest="d"))
        self.boots = {"w1": 0, "w2": 0, "w3": 0}
        self.submitted = 0
        for worker in ("w1", "w2"):  # left to chance, few runs had a worker and a job for it
            self.hello(worker, restart=False, held=[])

    def ask(self, command: ask.Command) -> list[Record]:
        before = (len(self.history.records), msgspec.msgpack.encode(self.history.state))
        try:
            return self.history.ask(command)
        except Refusal as refusal:
            if isinstance(refusal, QueueFull | LimitReached):
                assert isinstance(command, BRINGS), "only what people bring needs room"
            assert before == (len(self.history.records), msgspec.msgpack.encode(self.history.state))
            return []

    @rule(
        target=jobs,
        queue=QUEUES,
        priority=st.sampled_from([0, 50, 50, 50, 100]),
        key=st.sampled_from([None, "k1", "k2"]),
        submitter=SUBMITTERS,
        task=st.sampled_from(["pretend", "text-to-image"]),
        background=st.booleans(),
        hold=st.booleans(),
        times=st.tuples(IN_S, IN_S, IN_S),
    )
    def submit(  # type: ignore[no-untyped-def]
        self,
        queue: str,
        priority: int,
        key: str | None,
        submitter: str,
        task: str,
        background: bool,
        hold: bool,
        times,
    ) -> str:
        job = self.new_job()
        in_us = [None if s is None else self.history.at_us + round(s * 1e6) for s in times]
        command = submission(
            job,
            queue=queue,
            priority=priority,
            idempotency_key=key,
            request_digest=queue,
            submitter=submitter,
            task=task,
            params={"prompt": "x"} if task == "text-to-image" else {},
            is_background=background,
            is_held=hold,
            not_before_us=in_us[0],
            start_deadline_us=in_us[1],
            finish_deadline_us=in_us[2],
        )
        self.brought_within_bounds(self.ask(command), queue, submitter)
        return job

    @rule(target=jobs, queue=QUEUES, submitter=SUBMITTERS, many=st.integers(1, 6))
    def submit_batch(self, queue: str, submitter: str, many: int) -> str:
        jobs = tuple(submission(self.new_job(), queue=queue, submitter=submitter) for _ in range(many))
        records = self.ask(ask.SubmitBatch(batch=f"batch-{self.submitted}", jobs=jobs))
        assert len(records) in (0, many + 1), "all of a batch or nothing"
        self.brought_within_bounds(records, queue, submitter)
        return jobs[0].job

    def new_job(self) -> str:
        self.submitted += 1
        return f"job-{self.submitted}"

    def brought_within_bounds(self, records: list[Record], queue: str, submitter: str) -> None:
        state = self.history.state
        if records:
            assert not state.queues[queue].is_drained
            assert state.queues[queue].waiting <= (state.queues[queue].rules.capacity or 10**9)
            most = state.limits_of(submitter).max_waiting
            assert most is None or state.waiting_of(submitter) <= most

    @rule(worker=WORKERS, restart=st.booleans(), held=st.lists(leases, max_size=3))
    def hello(self, worker: str, restart: bool, held: list[Held]) -> None:
        self.boots[worker] += restart
        said = tuple(ask.HeldAttempt(**h.words()) for h in held)
        self.ask(register(worker, str(self.boots[worker]), said, MODELS if worker == "w1" else PRETEND))

    @rule(target=leases, worker=WORKERS)
    def lease_the_next(self, worker: str) -> Held:
        live = self.history.state.workers.get(worker)
        chosen = pick(self.history.state, live, 1, (), EMBEDDED) if live is not None else []
        if live is None or not chosen:
            return multiple()
        job = self.history.state.jobs[chosen[0].job]
        assert job.status == "queued"
        assert not self.history.state.queues[job.queue].is_paused
        assert worker not in self.history.state.quarantined
        if job.is_background:  # nothing else waits that this worker could run
            waiting = [j for j in self.history.state.jobs.values() if j.status == "queued" and not j.is_background]
            assert not any(self.may_run(j.id, worker) for j in waiting)
        command = ask.LeaseJob(job=job.id, worker=worker, boot=live.boot, lease_s=30.0, passed=chosen[0].passed)
        (record,) = self.history.ask(command)
        return Held(job.id, self.history.state.jobs[job.id].attempt, record.position)

    def may_run(self, job: str, worker: str) -> bool:
        trial = copy.deepcopy(self.history)
        live = trial.state.workers[worker]
        try:
            trial.ask(ask.LeaseJob(job=job, worker=worker, boot=live.boot, lease_s=30.0))
        except Refusal:
            return False
        return can_run(live, trial.state.jobs[job], EMBEDDED)

    @rule(target=leases, job=jobs, worker=WORKERS)
    def lease_any(self, job: str, worker: str) -> Held:
        command = ask.LeaseJob(job=job, worker=worker, boot=str(self.boots[worker]), lease_s=30.0)
        records = self.ask(command)
        if not records:
            return multiple()
        return Held(job, self.history.state.jobs[job].attempt, records[-1].position)

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
        records = self.ask(ask.RetryJob(job=job))
        self.came_back_within_bounds(records)

    def came_back_within_bounds(self, records: list[Record]) -> None:
        if records and isinstance(event := records[-1].event, JobRetried):
            self.brought_within_bounds(records, event.queue, event.submitter)

    @rule(job=jobs)
    def hold(self, job: str) -> None:
        self.ask(ask.HoldJob(job=job))

    @rule(job=jobs)
    def release(self, job: str) -> None:
        self.ask(ask.ReleaseJob(job=job))

    @rule(job=jobs, other=jobs, where=st.sampled_from(["top", "bottom", "before", "after"]))
    def move(self, job: str, other: str, where: str) -> None:
        command = ask.MoveJob(job=job, where=where, other=other)  # type: ignore[arg-type]
        records = self.ask(command)
        assert len(records) <= 1, "a move is one event, however long the line"
        state = self.history.state
        moved, beside = state.jobs.get(job), state.jobs.get(other)
        if records and moved is not None and state.queues[moved.queue].rules.policy == "fifo":
            line = list(state.queues[moved.queue].order)
            index = line.index(job)
            if where in ("top", "bottom"):
                assert index == (0 if where == "top" else len(line) - 1)
            else:
                assert beside is not None
                assert line.index(other) - index == (1 if where == "before" else -1)

    @rule(job=jobs, priority=st.one_of(st.none(), st.integers(0, 100)), queue=st.one_of(st.none(), QUEUES))
    def edit(self, job: str, priority: int | None, queue: str | None) -> None:
        records = self.ask(ask.EditJob(job=job, seed=1, priority=priority, queue=queue, tags=("edited",)))
        self.came_back_within_bounds(records)

    @rule(queue=QUEUES, policy=st.sampled_from(["fifo", "fair"]), capacity=st.one_of(st.none(), st.integers(1, 12)))
    def configure(self, queue: str, policy: str, capacity: int | None) -> None:
        self.ask(ask.ConfigureQueue(queue=queue, rules=Rules(policy=policy, capacity=capacity)))  # type: ignore[arg-type]

    @rule(key=st.sampled_from(["k1", "k2"]), most=st.one_of(st.none(), st.integers(0, 5)), weight=st.floats(0.1, 9))
    def limit(self, key: str, most: int | None, weight: float) -> None:
        limits = Limits(max_waiting=None if most is None else 3 * most, max_running=most, weight=weight)
        self.ask(ask.LimitKey(key=key, limits=limits))

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.history.wait(seconds)
        assert not list(self.history.state.due(self.history.at_us)), "what was due has been done"

    @rule(held=leases, later=st.sampled_from([0, 0, 0, 1]))
    def time_out(self, held: Held, later: int) -> None:
        self.ask(ask.TimeOutAttempt(job=held.job, attempt=held.attempt + later, why="it hangs"))

    @rule(worker=WORKERS)
    def release_worker(self, worker: str) -> None:
        self.ask(ask.ReleaseWorker(worker=worker))

    @rule(queue=QUEUES, back=st.integers(0, 30))
    def prune(self, queue: str, back: int) -> None:
        self.ask(ask.PruneQueue(queue=queue, through=max(0, self.history.state.position - back)))

    @rule(queue=QUEUES)
    def drain(self, queue: str) -> None:
        self.ask(ask.DrainQueue(queue=queue))

    @rule(held=leases, later=st.sampled_from([0, 0, 0, 1]))
    def expire(self, held: Held, later: int) -> None:
        self.ask(ask.ExpireLease(job=held.job, attempt=held.attempt + later))

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
    def ranks_are_dense_among_the_jobs_that_can_run_and_lines_are_in_order(self) -> None:
        state = self.history.state
        for queue in state.queues.values():
            assert queue.order.places == sorted(queue.order.places)
            in_line = map(state.jobs.__getitem__, queue.order)
            able = [job for job in in_line if why_nobody(state, job, EMBEDDED) is None]
            if queue.rules.policy == "fifo":
                assert [Ranks(state, EMBEDDED).rank(job) for job in able] == list(range(1, len(able) + 1))

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        state = self.history.state
        for queue in state.queues.values():
            here = [job for job in state.jobs.values() if job.queue == queue.name]
            assert queue.waiting == sum(queue.waiting_of.values()) == sum(j.status in WAITING for j in here)
            assert queue.running_of == Counter(j.submitter for j in here if j.status == "running")
        timers = sorted((j.timer_us, j.id) for j in state.jobs.values() if j.timer_us is not None)
        assert state.timers == timers

    @invariant()
    def nobody_is_passed_over_for_ever(self) -> None:
        assert all(job.passed <= MAX_PASSED for job in self.history.state.jobs.values())

    @invariant()
    def live_state_says_what_each_stream_says(self) -> None:
        state = self.history.state
        for number in range(1, self.submitted + 1):
            job = fold_stream(self.history.stream(f"job/job-{number}"))
            live = state.jobs.get(f"job-{number}")
            if live is not None:
                live = msgspec.structs.replace(live, passed=0)  # which the stream of another job says
                assert job == live
            else:
                assert job is None or job.status in FINISHED

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


Commands.TestCase.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)
TestCommands = Commands.TestCase
