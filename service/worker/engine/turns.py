"""Who is served next: the pure rule of the engine's ticks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import msgspec


class Standing(msgspec.Struct, frozen=True):
    """A member that stands at a call. `turns` counts its slices of time; without a `key` it cannot be joined."""

    priority: int
    turns: int
    rows: int
    key: Hashable | None


def choose(standings: Sequence[Standing], most_rows: Callable[[int], int]) -> list[int]:
    """The indices of those whose calls are made now, as one; `standings` are in the order of arrival, not empty.

    First the one of the highest priority, among these of the fewest turns, among these of the earliest arrival.
    With it whoever can be joined to it, in the same order, as long as `most_rows` of the first one allows.
    """
    order = sorted(range(len(standings)), key=lambda i: (-standings[i].priority, standings[i].turns, i))
    first = standings[order[0]]
    chosen, rows = [order[0]], first.rows
    if first.key is None:
        return chosen
    most = most_rows(order[0])
    for index in order[1:]:
        other = standings[index]
        if other.key == first.key and rows + other.rows <= most:
            chosen.append(index)
            rows += other.rows
    return chosen
