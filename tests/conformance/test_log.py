"""What every engine of the log promises (events/log.py), run over each engine there is."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.envelope import Record
from events.log import Log, LogClosed, LogError
from events.sqlite import SqliteLog
from tests.events.counting import ASKED, Counting, submitted

OpenLog = Callable[..., Log[Counting]]


@pytest.fixture(params=["sqlite"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens the same log again and again; what is open at the end is closed."""
    opened: list[Log[Counting]] = []
    ticks = itertools.count(1_000_000)

    def open_one(clock: Callable[[], int] = lambda: next(ticks), **options: object) -> Log[Counting]:
        log = SqliteLog(tmp_path / "log.db", restore=lambda _: Counting(), clock=clock, **options)  # type: ignore[arg-type]
        opened.append(log)
        return log

    yield open_one
    for log in opened:
        try:
            log.close()
        except Exception:
            continue  # the test closed it


def append(log: Log[Counting], *numbers: int) -> list[Record]:
    return log.decide(lambda tx: [submitted(n) for n in numbers], ASKED).result(10)


def test_positions_are_dense_and_versions_count_within_a_stream(open_log: OpenLog) -> None:
    log = open_log()
    records = append(log, 1, 2, 1) + append(log, 1)
    assert [(r.position, r.stream, r.version) for r in records] == [
        (1, "job/1", 0),
        (2, "job/2", 0),
        (3, "job/1", 1),
        (4, "job/1", 2),
    ]
    assert log.head() == 4


def test_what_is_read_back_is_what_was_answered(open_log: OpenLog) -> None:
    log = open_log()
    answered = log.decide(lambda tx: [submitted(1, private=b'{"prompt":"x"}')], ASKED).result(10)
    assert log.read(0, 10) == answered == log.read_stream("job/1")
    assert answered[0].private == b'{"prompt":"x"}'
    assert len(answered[0].private_digest or b"") == 32


def test_reading_goes_on_behind_a_position_in_pages(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *range(10))
    assert [r.position for r in log.read(3, 4)] == [4, 5, 6, 7]
    assert log.read(10, 4) == []


def test_a_decision_sees_what_every_earlier_one_caused(open_log: OpenLog) -> None:
    log = open_log()

    def once(tx):  # type: ignore[no-untyped-def]
        return [] if "job/7" in tx.state.streams else [submitted(7)]

    futures = [log.decide(once, ASKED) for _ in range(200)]
    assert sum(len(f.result(10)) for f in futures) == 1


def test_a_decision_can_read_a_stream_as_of_its_own_turn(open_log: OpenLog) -> None:
    log = open_log()
    lengths: list[int] = []

    def grow(tx):  # type: ignore[no-untyped-def]
        lengths.append(len(tx.stream("job/1")))
        return [submitted(1)]

    for future in [log.decide(grow, ASKED) for _ in range(20)]:
        future.result(10)
    assert lengths == list(range(20))


def test_a_refused_decision_appends_nothing_and_hurts_nobody_else(open_log: OpenLog) -> None:
    log = open_log()

    def refuse(tx):  # type: ignore[no-untyped-def]
        raise ValueError("no")

    before, refused, after = (
        log.decide(d, ASKED) for d in (lambda tx: [submitted(1)], refuse, lambda tx: [submitted(2)])
    )
    with pytest.raises(ValueError, match="no"):
        refused.result(10)
    assert [before.result(10)[0].position, after.result(10)[0].position] == [1, 2]


def test_a_repeat_within_one_commit_is_told_to_the_listener_once(open_log: OpenLog) -> None:
    told: list[int] = []
    log = open_log(on_commit=lambda records: told.extend(r.position for r in records))
    may_go_on = threading.Event()

    def wait(tx):  # type: ignore[no-untyped-def]
        may_go_on.wait(10)
        return [submitted(0)]

    asked = [log.decide(wait, ASKED)]
    asked += [log.decide(lambda tx: [submitted(1, event_id="e-1")], ASKED) for _ in range(2)]
    asked += [log.decide(lambda tx, n=n: [submitted(n)], ASKED) for n in (2, 3)]
    asked += [log.decide(lambda tx: [submitted(1, event_id="e-1")], ASKED)]
    may_go_on.set()
    assert [future.result(10)[0].position for future in asked] == [1, 2, 2, 3, 4, 2]
    append(log, 5)
    assert told == [1, 2, 3, 4, 5]


def test_an_event_that_does_not_fold_is_not_kept_and_the_log_goes_on(open_log: OpenLog) -> None:
    log = open_log()
    append(log, 1)

    def unfoldable(tx):  # type: ignore[no-untyped-def]
        tx.state.position += 1  # the fold asserts that records follow each other
        return [submitted(2)]

    with pytest.raises(LogError, match="nothing of its commit was kept"):
        log.decide(unfoldable, ASKED).result(10)
    assert (log.head(), log.read(1, 10)) == (1, [])
    assert [record.position for record in append(log, 3)] == [2]


def test_an_event_with_a_known_id_yields_the_first_record(open_log: OpenLog) -> None:
    log = open_log()
    first = log.decide(lambda tx: [submitted(1, event_id="e-1")], ASKED).result(10)
    again = log.decide(lambda tx: [submitted(2, event_id="e-1")], ASKED).result(10)
    assert again == first
    assert log.head() == 1


def test_time_never_falls_along_the_log_even_when_the_clock_does(open_log: OpenLog) -> None:
    ticks = iter([500, 900, 100, 200, 901, 50])
    log = open_log(clock=lambda: next(ticks))
    instants = [append(log, n)[0].at_us for n in range(6)]
    assert instants == [500, 900, 900, 900, 901, 901]
    log.close()
    reopened = open_log(clock=lambda: 7)
    assert append(reopened, 9)[0].at_us == 901


def test_a_reopened_log_is_the_same_log_at_the_same_head(open_log: OpenLog) -> None:
    log = open_log()
    records = append(log, 1, 2, 3)
    identity = log.log_id
    log.close()
    again = open_log()
    assert (again.log_id, again.head(), again.read(0, 10)) == (identity, 3, records)
    assert append(again, 4)[0].position == 4


def test_listeners_hear_every_record_once_and_in_order(open_log: OpenLog) -> None:
    heard: list[int] = []
    log = open_log(on_commit=lambda records: heard.extend(r.position for r in records))
    for future in [log.decide(lambda tx, n=n: [submitted(n)], ASKED) for n in range(300)]:
        future.result(10)
    assert heard == list(range(1, 301))


def test_a_record_is_durable_and_readable_before_its_future_resolves(open_log: OpenLog) -> None:
    log = open_log()
    for number in range(50):
        (record,) = append(log, number)
        assert log.read(record.position - 1, 1) == [record]


def test_a_closed_log_takes_nothing_more(open_log: OpenLog) -> None:
    log = open_log()
    waiting = [log.decide(lambda tx, n=n: [submitted(n)], ASKED) for n in range(100)]
    log.close()
    assert all(len(f.result(0)) == 1 for f in waiting), "what was asked before the end is finished"
    with pytest.raises(LogClosed):
        log.decide(lambda tx: [submitted(1)], ASKED).result(1)


def test_a_leaf_commits_to_the_record_and_not_to_its_private_part(open_log: OpenLog) -> None:
    log = open_log()
    log.decide(lambda tx: [submitted(1, private=b"a"), submitted(2, private=b"a")], ASKED).result(10)
    leaves = [log.leaf(position) for position in (1, 2)]
    assert all(len(leaf or b"") == 32 for leaf in leaves)
    assert leaves[0] != leaves[1]
    assert log.leaf(3) is None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12))
def test_many_threads_append_without_gap_or_loss(
    tmp_path_factory: pytest.TempPathFactory, plan: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.db"
    log: Log[Counting] = SqliteLog(path, restore=lambda _: Counting(), clock=lambda: 0)
    try:
        answers: list[list[Record]] = []
        threads = [threading.Thread(target=lambda n=numbers: answers.append(append(log, *n))) for numbers in plan]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        positions = sorted(r.position for answer in answers for r in answer)
        assert positions == list(range(1, sum(map(len, plan)) + 1))
        assert all(
            [r.position for r in a] == list(range(a[0].position, a[0].position + len(a))) for a in answers if a
        )
    finally:
        log.close()
