"""The outbox's file: folded once from the log, its own position, rebuilt to the same, and read in pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.webhooks import ENDS
from service import commands as ask
from service.webhooks.outbox import Attempt, Verdict, list_deliveries
from tests.history import History, submission
from tests.service.webhooks.desk import Desk

TRIED = Attempt(at_us=5, duration_ms=1, status=500, error="broken")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "outbox.db")
    desk.webhook("http://127.0.0.1:9/a")
    return desk


def rows(desk: Desk) -> list[tuple[object, ...]]:
    columns = "id, endpoint, type, version, position, round, outcome"
    return desk.outbox.reader().execute(f"SELECT {columns} FROM deliveries ORDER BY id").fetchall()


def test_each_event_is_owed_once_however_often_its_records_come(desk: Desk) -> None:
    end = desk.finish()
    desk.outbox.take_in([end])
    desk.outbox.take_in(desk.history.read(0, 1000))
    assert [d.position for d in desk.deliveries()] == [end.position]


def test_what_was_not_handed_over_is_read_from_the_log(desk: Desk) -> None:
    desk.history.submit("missed")
    desk.history.ask(ask.CancelJob(job="missed"))
    desk.finish("j")
    assert [d.type for d in desk.deliveries()] == ["job-cancelled", "job-completed"]
    assert desk.outbox.position == desk.history.head()


def test_an_outbox_built_anew_owes_what_is_still_owed_under_the_same_ids(desk: Desk, tmp_path: Path) -> None:
    for job in ("j1", "j2", "j3"):
        desk.finish(job)
    first, second, third = (d.id for d in desk.deliveries())
    desk.ask(ask.SettleDelivery(webhook="w", delivery=first, round=1, attempts=1, outcome="delivered"))
    desk.ask(ask.SettleDelivery(webhook="w", delivery=second, round=1, attempts=8, outcome="gave-up"))
    desk.ask(ask.RedeliverWebhook(webhook="w", delivery=second))
    desk.ask(ask.SettleDelivery(webhook="w", delivery=third, round=1, attempts=1, outcome="delivered"))
    again = Desk(tmp_path / "anew.db", desk.history)
    assert rows(again) == rows(desk)
    assert [d.status for d in again.deliveries()] == ["delivered", "pending", "delivered"]
    assert [due.id for due in again.outbox.due(again.now_us, (), 4)] == [second]


def test_attempts_and_their_pause_survive_a_restart(desk: Desk) -> None:
    desk.finish()
    (due,) = desk.outbox.due(desk.now_us, (), 4)
    desk.outbox.record(due, TRIED, Verdict(None, desk.now_us + 7))
    desk.outbox.close()
    again = Desk(desk.path, desk.history)
    assert again.outbox.due(again.now_us - 10**9, (), 4) == []
    (delivery,) = again.deliveries()
    assert [(a.status, a.error) for a in delivery.attempts] == [(500, "broken")]
    assert delivery.next_at_us == desk.now_us + 7


def test_a_result_of_an_earlier_round_does_not_end_the_newer_one(desk: Desk) -> None:
    desk.finish()
    (due,) = desk.outbox.due(desk.now_us, (), 4)
    desk.ask(ask.RedeliverWebhook(webhook="w", delivery=due.id))
    desk.outbox.record(due, TRIED, Verdict("gave-up"))
    (delivery,) = desk.deliveries()
    assert (delivery.round, delivery.status, len(delivery.attempts)) == (2, "pending", 1)


def test_a_filter_takes_its_types_of_its_queues_only(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "outbox.db", History().with_queue().with_queue("fast").with_worker())
    desk.webhook("http://127.0.0.1:9/a", "fast", events=("job-submitted", "job-cancelled"), queues=("fast",))
    desk.webhook("http://127.0.0.1:9/b", "all", events=ENDS)
    for job, queue in (("f", "fast"), ("d", "default")):
        desk.ask(submission(job, queue=queue))
        desk.ask(ask.CancelJob(job=job))
    assert [(d.type, d.stream) for d in desk.deliveries("fast")] == [
        ("job-submitted", "job/f"), ("job-cancelled", "job/f"),
    ]  # fmt: skip
    assert [d.stream for d in desk.deliveries("all")] == ["job/f", "job/d"]


def test_deliveries_are_read_in_pages_in_both_directions(desk: Desk) -> None:
    ends = [desk.finish(f"j{number}").position for number in range(7)][::-1]
    seen, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page, following, previous = list_deliveries(desk.outbox.reader(), "w", limit=3, after=after)
        assert (previous is None) == (pages == 0)
        seen += [d.position for d in page]
        after, pages = following, pages + 1
    assert (seen, pages) == (ends, 3)
    page, following, previous = list_deliveries(desk.outbox.reader(), "w", limit=3, before=ends[4])
    assert ([d.position for d in page], following, previous) == (ends[1:4], ends[3], ends[1])


def test_what_has_ended_is_forgotten_after_its_time_and_what_is_owed_is_not(desk: Desk) -> None:
    desk.finish("j1")
    desk.finish("j2")
    first, _ = desk.outbox.due(desk.now_us, (), 4)
    desk.outbox.record(first, TRIED, Verdict("delivered"))
    desk.outbox.prune(desk.now_us)
    assert [d.stream for d in desk.deliveries()] == ["job/j2"]
    assert desk.outbox.reader().execute("SELECT count(*) FROM attempts").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT id FROM deliveries WHERE outcome IS NULL AND lane = ? AND next_at_us <= ? "
         "ORDER BY next_at_us, position LIMIT ?", "deliveries_due"),
        ("SELECT DISTINCT lane FROM deliveries WHERE outcome IS NULL", "deliveries_due"),
        ("SELECT id FROM deliveries WHERE endpoint = ? AND position < ? ORDER BY position DESC LIMIT ?",
         "deliveries_endpoint"),
        ("SELECT id FROM deliveries WHERE to_tell IS NOT NULL LIMIT ?", "deliveries_to_tell"),
    ],
)  # fmt: skip
def test_hot_queries_use_their_index(desk: Desk, sql: str, index: str) -> None:
    values = [1] * sql.count("?")
    plan = " ".join(str(row[3]) for row in desk.outbox.reader().execute(f"EXPLAIN QUERY PLAN {sql}", values))
    assert index in plan
    assert "TEMP B-TREE" not in plan
