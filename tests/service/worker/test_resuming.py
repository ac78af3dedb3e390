"""Which attempts begin again after the death of a child, as a table and as any story of deaths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.worker.credit import NONE, Credit, credit_of
from service.worker.frames import Begin
from service.worker.held import Held
from service.worker.resuming import Resuming


def held(tape: Path, job: str = "j") -> Held:
    begun = Begin(job=job, attempt=1, task="pretend", model="pretend", params={}, tape=str(tape))
    return Held(job=job, attempt=1, token=1, stage="computing", begun=begun)


def dies(attempt: Held, *, bytes_kept: int, had_company: bool) -> bool:
    """Whether it begins again."""
    assert attempt.begun is not None
    Path(attempt.begun.tape).write_bytes(b"x" * bytes_kept)
    return Resuming().takes(attempt, had_company=had_company)


def test_who_computed_alone_and_kept_nothing_has_failed(tmp_path: Path) -> None:
    assert not dies(held(tmp_path / "t"), bytes_kept=0, had_company=False)


def test_who_had_company_gets_one_try_alone(tmp_path: Path) -> None:
    attempt = held(tmp_path / "t")
    assert dies(attempt, bytes_kept=0, had_company=True)
    assert not dies(attempt, bytes_kept=0, had_company=False)


def test_who_came_further_goes_on_and_who_dies_at_one_place_has_failed(tmp_path: Path) -> None:
    attempt = held(tmp_path / "t")
    assert dies(attempt, bytes_kept=10, had_company=False)
    assert dies(attempt, bytes_kept=20, had_company=False)
    assert not dies(attempt, bytes_kept=20, had_company=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_deaths_without_headway_are_few(tmp_path: Path, deaths: list[tuple[int, bool]]) -> None:
    attempt = held(tmp_path / "t")
    best, idle = 0, 0
    for bytes_kept, had_company in deaths:
        if bytes_kept <= best:
            idle += 1
        best = max(best, bytes_kept)
        if not dies(attempt, bytes_kept=best, had_company=had_company):
            return
        assert idle <= 1, "it began again though it had been alone and came no further"


def test_they_begin_in_the_order_in_which_they_were_left(tmp_path: Path) -> None:
    resuming = Resuming()
    first, second = held(tmp_path / "1", "1"), held(tmp_path / "2", "2")
    assert all(resuming.takes(attempt, had_company=True) for attempt in (first, second))
    assert first in resuming
    assert resuming.forget(first)
    assert not resuming.forget(first)
    assert resuming.next() is second
    assert resuming.next() is None


@pytest.mark.parametrize(
    ("stages", "offers", "worth", "credit"),
    [
        ([], 0, 1, Credit(slots=1)),
        ([], 1, 1, NONE),
        (["fetching"], 0, 1, NONE),
        (["writing", "delivering"], 0, 1, Credit(slots=1)),
        (["delivering"] * 5, 0, 1, NONE),
        (["delivering"] * 5, 0, 4, Credit(slots=1)),
        (["computing"], 0, 1, Credit(before=1)),
        (["computing"], 0, 4, Credit(beside=3, before=1)),
        (["computing"], 2, 4, Credit(beside=1, before=1)),
        (["computing"] * 4, 0, 4, Credit(before=1)),
        (["computing"] * 5, 0, 4, NONE),
    ],
)
def test_the_credit_of_a_worker(stages: list[str], offers: int, worth: int, credit: Credit) -> None:
    assert credit_of(stages, offers, worth) == credit
