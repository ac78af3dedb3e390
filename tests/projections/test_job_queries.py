"""Reading the job view: pages in both directions, the newest of a status, counts, and the plans behind them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.jobs import JobError
from projections.job_queries import (
    _LATEST_FINISHED,
    _LATEST_UNFINISHED,
    JobFilter,
    find_job,
    job_counts,
    latest_job,
    list_jobs,
)
from projections.store import ViewStore
from service import commands as ask
from tests.history import History

ENDINGS = ["completed", "failed", "cancelled", "queued"]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewStore]:
    """40 jobs over two queues; job n ended as ENDINGS[n % 4], the even ones of a kind in reverse order."""
    history = History().with_queue().with_queue("other").with_worker()
    for n in range(40):
        history.submit(f"j{n:02}", queue="other" if n % 3 == 0 else "default", submitter=f"s{n % 2}")
    for n in reversed(range(40)):
        _end(history, f"j{n:02}", ENDINGS[n % 4])
    store = ViewStore(tmp_path_factory.mktemp("views") / "views.db", history)  # type: ignore[arg-type]
    yield store
    store.close()


def _end(history: History, job: str, ending: str) -> None:
    if ending == "cancelled":
        history.ask(ask.CancelJob(job=job))
    elif ending != "queued":
        held = history.lease(job)
        error = JobError(kind="out-of-memory", message="m")
        done = ask.CompleteJob(artifacts=(), facts={}, **held.words())
        history.ask(done if ending == "completed" else ask.FailAttempt(error=error, **held.words()))


def test_one_job_or_none(views: ViewStore) -> None:
    job = find_job(views.reader(), "j07")
    assert job is not None
    assert job.status == "queued"
    assert find_job(views.reader(), "j99") is None


@pytest.mark.parametrize(
    ("status", "expected"), [("completed", "j00"), ("failed", "j01"), ("queued", "j39"), (None, "j39")]
)
def test_the_newest_of_a_finished_status_is_the_last_that_ended(views: ViewStore, status, expected: str) -> None:  # type: ignore[no-untyped-def]
    job = latest_job(views.reader(), status)
    assert job is not None
    assert job.id == expected


def test_there_may_be_no_newest(views: ViewStore) -> None:
    assert latest_job(views.reader(), "running") is None


def test_counts_are_what_counting_gives(views: ViewStore) -> None:
    counted: dict[str, dict[str, int]] = {}
    for queue, status in views.reader().execute("SELECT queue, status FROM jobs"):
        of_queue = counted.setdefault(str(queue), {})
        of_queue[str(status)] = of_queue.get(str(status), 0) + 1
    assert job_counts(views.reader()) == counted


FILTERS = st.builds(
    JobFilter,
    status=st.lists(st.sampled_from(ENDINGS), max_size=2, unique=True).map(tuple),
    queue=st.sampled_from([None, "default", "other"]),
    submitter=st.sampled_from([None, "s0", "s1"]),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=FILTERS, order=st.sampled_from(["newest", "oldest"]), limit=st.integers(1, 45))
def test_walking_the_pages_forth_and_back_shows_every_job_once(
    views: ViewStore,
    wanted: JobFilter,
    order,
    limit: int,  # type: ignore[no-untyped-def]
) -> None:
    reader = views.reader()
    everything = [job.id for job in list_jobs(reader, wanted, order=order, limit=1000).jobs]
    assert everything == sorted(everything, reverse=order == "newest")
    page = list_jobs(reader, wanted, order=order, limit=limit)
    assert page.previous_cursor is None
    pages = [[job.id for job in page.jobs]]
    while page.next_cursor is not None:
        page = list_jobs(reader, wanted, order=order, limit=limit, after=page.next_cursor)
        pages.append([job.id for job in page.jobs])
    assert [job for ids in pages for job in ids] == everything
    for ids in reversed(pages[:-1]):
        assert page.previous_cursor is not None
        page = list_jobs(reader, wanted, order=order, limit=limit, before=page.previous_cursor)
        assert [job.id for job in page.jobs] == ids
    assert page.previous_cursor is None


@pytest.mark.parametrize(
    "sql",
    [
        _LATEST_FINISHED.replace("?", "'completed'"),
        _LATEST_UNFINISHED.replace("?", "'queued'"),
        "SELECT body FROM jobs WHERE status IN ('queued') AND submitted > 5 ORDER BY submitted ASC LIMIT 51",
        "SELECT body FROM jobs WHERE queue = 'default' AND status IN ('queued') ORDER BY submitted DESC LIMIT 51",
        "SELECT body FROM jobs WHERE submitted < 900 ORDER BY submitted DESC LIMIT 51",
    ],
)
def test_no_list_sorts_or_scans(views: ViewStore, sql: str) -> None:
    plan = [row[3] for row in views.reader().execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert all(str(step).startswith("SEARCH") for step in plan), plan
