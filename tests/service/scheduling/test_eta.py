"""The forward run: against arithmetic done by hand, in its corner cases, and in a simulated machine room."""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.accuracy import Accuracy
from projections.costs import Costs, Spent, Work, work_of
from service.scheduling.eta import Eta, Forecast, Job, Running, Why, Worker, forward, moved, rest_s
from tests.service.scheduling.fake_gpus import MODELS, TASK, Room, Tiers

PRETEND = {"pretend": ("pretend",)}
PAUSED, NOBODY = Why(blocked="paused"), Why(blocked="no-worker")


def seconds(s: float) -> Work:
    return work_of({"steps": 1, "step_s": s})


def exact() -> Costs:
    """Costs that know a timed job to take just what it asks for."""
    costs = Costs()
    for number in range(400):
        s = 1.0 + number % 50
        costs.learn("pretend", "cpu", seconds(s), Spent(s, None, 0.0))
    return costs


EXACT = exact()


def timed(name: str, s: float, tier: int = 0, is_paused: bool = False) -> Job:
    return Job(name, "pretend", "pretend", tier, seconds(s), is_paused)


def cpu(name: str = "w", slots: int = 1, running: tuple[Running, ...] = ()) -> Worker:
    return Worker(name, "cpu", PRETEND, slots=slots, running=running, warm=("pretend",))


def see(workers: Sequence[Worker], jobs: Sequence[Job], **more: int) -> Forecast:
    return forward(workers, Tiers(jobs), EXACT, Accuracy(), 0, **more)


def test_one_worker_does_one_after_the_other() -> None:
    jobs = [timed("a", 5.0), timed("b", 2.0), timed("c", 1.0)]
    seen = see([cpu(running=(Running(timed("now", 9.0), 3.0),))], jobs)
    etas = [seen.eta(job) for job in (timed("now", 9.0), *jobs)]
    assert [eta.start_s for eta in etas] == pytest.approx([0.0, 3.0, 8.0, 10.0], abs=0.01)
    assert [eta.done_s for eta in etas] == pytest.approx([3.0, 8.0, 10.0, 11.0], abs=0.01)
    assert [eta.why.jobs_ahead for eta in etas] == [0, 0, 1, 2]


@given(sizes=st.lists(st.integers(1, 50), max_size=40), slots=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_slots_are_filled_as_they_become_free(sizes: list[int], slots: list[int]) -> None:
    jobs = [timed(f"{number}", float(s)) for number, s in enumerate(sizes)]
    seen = see([cpu(f"w{n}", slots=count) for n, count in enumerate(slots)], jobs)
    free = [0.0] * sum(slots)
    for job, s in zip(jobs, sizes, strict=True):
        start_s = heapq.heappop(free)
        heapq.heappush(free, start_s + s)
        assert seen.eta(job).start_s == pytest.approx(start_s, abs=0.05)
        assert seen.eta(job).done_s == pytest.approx(start_s + s, abs=0.05)


@given(
    jobs=st.lists(
        st.builds(
            lambda model, tier, is_paused: (model, tier, is_paused),
            st.sampled_from([*MODELS, "missing"]), st.integers(0, 2), st.booleans(),
        ), max_size=30,
    ),
    workers=st.integers(0, 3), depth=st.integers(1, 40), gpu_s=st.floats(0, 1e5),
)  # fmt: skip
def test_whatever_waits_has_an_ordered_eta_or_a_reason(
    jobs: list[tuple[str, int, bool]], workers: int, depth: int, gpu_s: float
) -> None:
    room = [Worker(f"w{n}", "gpu", {TASK: tuple(MODELS)}) for n in range(workers)]
    waiting = [Job(f"{n}", TASK, model, t, work_of({}), p) for n, (model, t, p) in enumerate(jobs)]
    waiting.sort(key=lambda job: -job.tier)
    accuracy = Accuracy()
    accuracy.arrived(1, gpu_s, 0)
    seen = forward(room, Tiers(waiting), Costs(), accuracy, 0, depth=depth)
    for job in waiting:
        eta = seen.eta(job)
        if job.is_paused or job.model == "missing" or not workers:
            assert eta == Eta(None, None, None, PAUSED if job.is_paused else NOBODY)
        else:
            instants = [s for s in (0.0, eta.start_s, eta.done_s, eta.done_p90_s) if s is not None]
            assert len(instants) == 4
            assert instants == sorted(instants)
    assert len(seen.etas) <= depth


def test_a_cold_model_is_loaded_once_and_kept_while_there_is_room() -> None:
    costs = Costs()
    for model in ("a", "b"):
        for _ in range(10):
            costs.learn(model, "gpu", work_of({"steps": 5}), Spent(2.0, 7.0, 0.5))

    def told(keeps: int) -> list[Eta]:
        jobs = [Job(f"{n}", "draw", model, 0, work_of({"steps": 5})) for n, model in enumerate("abab")]
        worker = Worker("w", "gpu", {"draw": ("a", "b")}, warm=("a",), keeps=keeps)
        line = Tiers(jobs, {job.id: 9 for job in jobs})  # each passed over too often: first come
        seen = forward([worker], line, costs, Accuracy(), 0)
        return [seen.eta(job) for job in jobs]

    assert [eta.why.cold_load_s for eta in told(keeps=1)] == pytest.approx([0.0, 7.0, 7.0, 7.0])
    assert [eta.why.cold_load_s for eta in told(keeps=2)] == pytest.approx([0.0, 7.0, 0.0, 0.0])
    assert [eta.start_s for eta in told(keeps=2)] == pytest.approx([0.0, 2.0, 11.0, 13.0], abs=0.01)
    assert [eta.done_s for eta in told(keeps=2)] == pytest.approx([2.5, 11.5, 13.5, 15.5], abs=0.01)


def test_only_jobs_that_stand_in_the_way_are_ahead() -> None:
    workers = [Worker("p", "gpu", {TASK: ("small",)}), Worker("v", "gpu", {TASK: ("huge",)})]
    jobs = [Job(f"{n}", TASK, model, 0, work_of({})) for n, model in enumerate(["huge", "huge", "small", "huge"])]
    seen = forward(workers, Tiers(jobs), Costs(), Accuracy(), 0)
    assert [seen.eta(job).why.jobs_ahead for job in jobs] == [0, 1, 0, 2]
    assert seen.eta(jobs[2]).start_s == 0.0


class OneEach(Tiers):
    """A line whose jobs are one submitter's, who may have one running."""

    is_busy = False

    def take(self, worker: Worker, warm: Sequence[str], at_s: float) -> Job | None:
        """The next one while none runs."""
        if self.is_busy:
            return None
        job = super().take(worker, warm, at_s)
        self.is_busy = job is not None
        return job

    def ended(self, job: str) -> bool:
        """Whoever is idle may have the next."""
        self.is_busy = False
        return True


def test_an_idle_worker_is_asked_again_when_a_cap_is_freed() -> None:
    jobs = [timed("a", 5.0), timed("b", 3.0), timed("c", 1.0)]
    seen = forward([cpu("w1"), cpu("w2")], OneEach(jobs), EXACT, Accuracy(), 0)
    assert [seen.eta(job).start_s for job in jobs] == pytest.approx([0.0, 5.0, 8.0], abs=0.01)


def test_what_the_scheduler_gives_to_nobody_has_no_eta() -> None:
    line = OneEach([timed("a", 5.0)])
    line.is_busy = True
    assert forward([cpu()], line, EXACT, Accuracy(), 0).eta(timed("a", 5.0)).why.blocked == "withheld"


def test_behind_the_depth_the_work_ahead_is_divided_by_the_throughput() -> None:
    jobs = [timed(f"{n}", 1.0 + n * 7 % 13) for n in range(600)]
    workers = [cpu(f"w{n}") for n in range(4)]
    capped, whole = see(workers, jobs, depth=100), see(workers, jobs, depth=1000)
    assert (capped.is_complete, whole.is_complete) == (False, True)
    for place in (100, 150, 300, 599):
        between = jobs[100:place]
        known_s = sum(job.work.linear for job in between)
        for work_s in (known_s, len(between) * capped.mean_run_s):
            eta, true = capped.eta(jobs[place], len(between), work_s), whole.eta(jobs[place])
            assert eta.start_s == pytest.approx(true.start_s, rel=0.03)
            assert eta.why.jobs_ahead == true.why.jobs_ahead == place


def test_a_wait_grows_by_what_will_overtake_and_the_bound_by_past_errors() -> None:
    accuracy = Accuracy()
    accuracy.arrived(1, 300.0, 0)  # half of the one worker's time
    for _ in range(50):
        accuracy.learn(0, 25.0, 30.0)
    jobs = [timed("a", 10.0), timed("b", 5.0)]
    eta = forward([cpu()], Tiers(jobs), EXACT, accuracy, 0).eta(jobs[1])
    assert (eta.start_s, eta.done_s, eta.done_p90_s) == pytest.approx((20.0, 25.0, 30.0), abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "left_s"),
    [
        ((100.0, 30.0), 70.0),
        ((100.0, 99.0), 5.0),  # late: never this instant
        ((100.0, 500.0), 5.0),
        ((100.0, 30.0, 1, 20, 8.0), 70.0),  # one step in twenty says little
        ((100.0, 30.0, 2, 20, 8.0), 144.0),
        ((100.0, 30.0, 20, 20, 8.0), 8.0),  # decoding is still to come
        ((0.0, 0.0, 0, 0, 0.0), 0.0),
    ],
)
def test_the_rest_of_a_running_job_is_told_by_its_own_pace(arguments: tuple[float, ...], left_s: float) -> None:
    assert rest_s(*arguments) == pytest.approx(left_s)  # type: ignore[arg-type]


def at(done_s: float) -> Eta:
    return Eta(0.0, done_s, done_s, Why())


@pytest.mark.parametrize(
    ("old", "new", "is_news"),
    [
        (None, at(50.0), True),
        (at(60.0), at(50.0), False),  # ten seconds later ten less
        (at(60.0), at(51.9), False),
        (at(60.0), at(52.1), True),
        (at(11.0), at(1.05), False),
        (at(11.0), at(1.2), True),
        (at(60.0), Eta(None, None, None, PAUSED), True),
        (Eta(None, None, None, PAUSED), at(50.0), True),
        (Eta(None, None, None, PAUSED), Eta(None, None, None, PAUSED), False),
        (Eta(None, None, None, PAUSED), Eta(None, None, None, NOBODY), True),
    ],
)
def test_only_a_change_that_matters_is_news(old: Eta | None, new: Eta, is_news: bool) -> None:
    assert moved(old, new, 10.0) is is_news


def share_within(room: Room) -> float:
    late = room.promised[100:]  # the first hundred are learning
    return statistics.mean(abs(promised_s / actual_s - 1) <= 0.2 for promised_s, actual_s in late)


@pytest.mark.parametrize(
    ("gpus", "noise", "high", "load", "look_ahead", "share"),
    [
        (1, 0.1, 0.0, 0.4, 1, 0.97),  # first come first served: only noise is unknown
        (4, 0.1, 0.0, 0.4, 1, 0.90),
        (1, 0.1, 0.0, 0.4, 16, 0.88),  # later jobs pass for the sake of a warm model
        (4, 0.1, 0.0, 0.4, 16, 0.88),
        (1, 0.25, 0.0, 0.4, 16, 0.72),
        (2, 0.1, 0.1, 0.4, 16, 0.84),
        (2, 0.1, 0.3, 0.4, 16, 0.75),
    ],
)
def test_promises_at_submit_are_kept_in_a_room_of_gpus(
    gpus: int, noise: float, high: float, load: float, look_ahead: int, share: float
) -> None:
    rooms = [Room(gpus, noise, high, load, look_ahead, seed) for seed in range(3)]
    for room in rooms:
        room.run(800)
    assert statistics.mean(share_within(room) for room in rooms) >= share


def test_a_run_over_100_waiting_jobs_takes_below_5_ms() -> None:
    costs = Costs()
    for model in MODELS:
        costs.learn(model, "gpu", work_of({"steps": 20}), Spent(3.0, 8.0, 0.1))
    workers = [Worker(f"w{n}", "gpu", {TASK: tuple(MODELS)}) for n in range(4)]
    jobs = [Job(f"{n}", TASK, list(MODELS)[n % 4], n // 40, work_of({"steps": 5 + n})) for n in range(99, -1, -1)]
    took_s = []
    for _ in range(20):
        line, began_at = Tiers(jobs), time.perf_counter()
        assert forward(workers, line, costs, Accuracy(), 0).starts == 100
        took_s.append(time.perf_counter() - began_at)
    assert min(took_s) < 0.005
