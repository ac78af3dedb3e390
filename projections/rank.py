"""Ranks between ranks: a place for a moved job without renumbering the queue, in one event.

A rank is a string of hexadecimal digits that compares as text and never ends in 0. Read as a fraction
0.xxxx there is always another one strictly between two of them ("fractional indexing", as in collaborative
editors). A job that was never moved has the rank of its submission, so that first come is first.
"""

from __future__ import annotations

DIGITS = "0123456789abcdef"
WIDTH = 12
"""Digits that a position takes: 2.8e14 positions."""


def first_rank(position: int) -> str:
    """The rank of a job submitted at `position`: later ones are larger."""
    return f"{position:0{WIDTH}x}8"  # the last digit leaves room on both sides, and is not 0


def between(low: str, high: str | None) -> str:
    """The shortest rank strictly between `low` ("" for no lower bound) and `high` (None for no upper bound).

    Both are ranks, and `low` is smaller.
    """
    assert high is None or low < high, f"{low!r} is not before {high!r}"
    digits = ""
    place = 0
    while True:
        under = DIGITS.index(low[place]) if place < len(low) else 0
        over = DIGITS.index(high[place]) if high is not None and place < len(high) else len(DIGITS)
        if over - under > 1:
            return digits + DIGITS[(under + over) // 2]
        digits += DIGITS[under]
        if over > under:
            high = None  # from here on anything above `low` is below `high`
        place += 1
