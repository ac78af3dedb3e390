"""The schedule of retries: for any chance and any answer, later and later, within a day, and then no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.webhooks.schedule import JITTER, PAUSES_S, WINDOW_S, S, asked_pause_s, next_attempt

FIRST_US = 1_700_000_000 * S
chances = st.floats(0, 1, exclude_max=True)
DAY_US = WINDOW_S * S


@given(st.lists(chances, min_size=len(PAUSES_S), max_size=len(PAUSES_S)), st.integers(0, 15 * S))
def test_a_delivery_that_always_fails_is_tried_eight_times_within_a_day(randoms: list[float], took_us: int) -> None:
    now_us, tries = FIRST_US, 1
    while at_us := next_attempt(tries, first_at_us=FIRST_US, now_us=now_us + took_us, random=randoms[tries - 1]):
        pause_s = (at_us - now_us - took_us) / S
        assert PAUSES_S[tries - 1] * (1 - JITTER) <= pause_s + 1e-6 <= PAUSES_S[tries - 1] + 2e-6
        assert at_us <= FIRST_US + DAY_US
        now_us, tries = at_us, tries + 1
        if tries > len(PAUSES_S):
            randoms.append(0.0)
    assert tries == len(PAUSES_S) + 1 == 8
    assert now_us - FIRST_US >= 0.75 * DAY_US, "most of a day was tried"


@given(st.integers(1, 12), st.integers(0, 2 * DAY_US), chances, st.floats(0, 10 * WINDOW_S))
def test_a_next_try_is_always_later_and_in_the_window_and_as_late_as_was_asked(
    tries: int, since_us: int, random: float, asked_s: float
) -> None:
    now_us = FIRST_US + since_us
    at_us = next_attempt(tries, first_at_us=FIRST_US, now_us=now_us, random=random, asked_s=asked_s)
    if at_us is None:
        assert tries > len(PAUSES_S) or since_us >= DAY_US
    else:
        assert now_us < at_us <= FIRST_US + DAY_US
        assert at_us >= min(now_us + asked_s * S - 1, FIRST_US + DAY_US)


def test_chance_spreads_what_failed_together() -> None:
    tries = {next_attempt(3, first_at_us=0, now_us=0, random=r / 10) for r in range(10)}
    assert len(tries) == 10


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0), ("0", 0.0), ("99999999999999", float(WINDOW_S)), ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0), ("", 0.0), ("soon", 0.0), ("-5", 0.0), ("1.5", 0.0), ("²", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert asked_pause_s(header, 1_445_412_480 * S) == seconds
