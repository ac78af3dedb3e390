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
from tests.events.counting import Counting, append, asked, submitted

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
    committed = log.commit([asked(submitted(1, private=b'{"prompt":"x"}'))])
    (answered,) = committed.outcomes
    assert isinstance(answered, list)
    assert committed.records == answered
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

    committed = [log.commit([asked(once)] * size) for size in (1, 3, 196)]
    assert [len(one.records) for one in committed] == [1, 0, 0]
    assert [outcome for one in committed for outcome in one.outcomes][1:] == [[]] * 199


def test_a_decision_can_read_a_stream_as_of_its_own_turn(open_log: OpenLog) -> None:
    log = open_log()
    lengths: list[int] = []

    def grow(tx):  # type: ignore[no-untyped-def]
        lengths.append(len(tx.stream("job/1")))
        return [submitted(1)]

    log.commit([asked(grow)] * 7)
    log.commit([asked(grow)] * 13)
    assert lengths == list(range(20))


def test_the_head_is_what_is_durable_while_a_commit_runs(open_log: OpenLog) -> None:
    log = open_log()
    append(log, 1)
    seen: list[tuple[int, int]] = []

    def look(tx):  # type: ignore[no-untyped-def]
        seen.append((tx.state.position, log.head()))
        return [submitted(3)]

    log.commit([asked(submitted(2)), asked(look)])
    assert seen == [(2, 1)]
    assert log.head() == 3


def test_a_refused_decision_appends_nothing_and_hurts_nobody_else(open_log: OpenLog) -> None:
    log = open_log()

    def refuse(tx):  # type: ignore[no-untyped-def]
        raise ValueError("no")

    committed = log.commit([asked(submitted(1)), asked(refuse), asked(submitted(2))])
    before, refused, after = committed.outcomes
    assert isinstance(refused, ValueError)
    assert [before, after] == [[committed.records[0]], [committed.records[1]]]
    assert log.read(0, 10) == committed.records


def test_a_repeat_within_one_commit_is_among_its_records_once(open_log: OpenLog) -> None:
    log = open_log()
    drafts = [submitted(0), *[submitted(1, event_id="e-1")] * 2, submitted(2), submitted(1, event_id="e-1")]
    committed = log.commit([asked(draft) for draft in drafts])
    assert [outcome[0].position for outcome in committed.outcomes if isinstance(outcome, list)] == [1, 2, 2, 3, 2]
    assert [record.position for record in committed.records] == [1, 2, 3]


def test_a_stream_that_begins_counts_on_from_its_first_record(open_log: OpenLog) -> None:
    log = open_log()
    committed = log.commit([asked(submitted(1, begins=True)), asked(submitted(1))])
    assert [record.version for record in committed.records + append(log, 1)] == [0, 1, 2]


@pytest.mark.parametrize("in_one_commit", [True, False])
def test_a_stream_does_not_begin_twice_and_the_log_goes_on(open_log: OpenLog, in_one_commit: bool) -> None:
    log = open_log()
    begin = asked(submitted(1, begins=True))
    committed = log.commit([begin, begin]) if in_one_commit else [log.commit([begin]), log.commit([begin])][1]
    assert committed.records == []
    assert isinstance(committed.outcomes[-1], LogError)
    assert "nothing of its commit was kept" in str(committed.outcomes[-1])
    append(log, 2)
    assert [record.stream for record in log.read(0, 10)] == ["job/2"] if in_one_commit else ["job/1", "job/2"]


def test_an_event_that_does_not_fold_is_not_kept_and_the_log_goes_on(open_log: OpenLog) -> None:
    log = open_log()
    append(log, 1)

    def unfoldable(tx):  # type: ignore[no-untyped-def]
        tx.state.position += 1  # the fold asserts that records follow each other
        return [submitted(2)]

    committed = log.commit([asked(submitted(4)), asked(unfoldable)])
    assert committed.records == []
    for outcome in committed.outcomes:
        assert isinstance(outcome, LogError)
        assert "nothing of its commit was kept" in str(outcome)
    assert (log.head(), log.read(1, 10)) == (1, [])
    assert [record.position for record in append(log, 3)] == [2]


def test_an_event_with_a_known_id_yields_the_first_record(open_log: OpenLog) -> None:
    log = open_log()
    first = log.commit([asked(submitted(1, event_id="e-1"))])
    again = log.commit([asked(submitted(2, event_id="e-1"))])
    assert again.outcomes == first.outcomes
    assert again.records == []
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


def test_a_record_is_durable_and_readable_once_it_is_answered(open_log: OpenLog) -> None:
    log = open_log()
    for number in range(50):
        (record,) = append(log, number)
        assert log.read(record.position - 1, 1) == [record]


def test_a_closed_log_takes_nothing_more(open_log: OpenLog) -> None:
    log = open_log()
    log.close()
    (refused,) = log.commit([asked(submitted(1))]).outcomes
    assert isinstance(refused, LogClosed)


def test_a_leaf_commits_to_the_record_and_not_to_its_private_part(open_log: OpenLog) -> None:
    log = open_log()
    log.commit([asked(submitted(1, private=b"a"), submitted(2, private=b"a"))])
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
