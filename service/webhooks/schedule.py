"""When a delivery is tried again: longer and longer pauses, jittered, for a day in all. Pure."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

S = 1_000_000  # microseconds

PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 21_600)
"""Most seconds before each further attempt: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 6 h, in all just under a day,
as the Standard Webhooks specification recommends."""

JITTER = 0.2
"""Up to this share of a pause is left out, by chance: what failed together does not come back together."""

WINDOW_S = 24 * 3600
"""From the first attempt of a round, nothing is tried after this, whatever an answer asks for."""


def next_attempt(tries: int, *, first_at_us: int, now_us: int, random: float, asked_s: float = 0.0) -> int | None:
    """When (UTC microseconds) to try again after `tries` failed attempts; None to give up.

    `random` is drawn from 0 to below 1, `asked_s` is what the answer asked to wait (Retry-After): the longer of
    that and the pause counts, up to the end of the window.
    """
    deadline_us = first_at_us + WINDOW_S * S
    if tries > len(PAUSES_S) or now_us >= deadline_us:
        return None
    pause_s = PAUSES_S[tries - 1] * (1 - JITTER * random)
    return int(min(now_us + max(pause_s, asked_s) * S, deadline_us))


def asked_pause_s(header: str, now_us: int) -> float:
    """The seconds that a Retry-After header (RFC 9110 section 10.2.3) asks for; 0 where it cannot be read."""
    if header.isascii() and header.isdigit():
        return float(min(int(header[:9]), WINDOW_S))
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_us / S)
