"""Who stands where: the jobs of one queue that are in line.

One line in the order of a fifo queue, for ranks and moves; and the same jobs in lanes, one for each submitter
and model, because whole lanes are passed over at once: of a submitter at its cap, of a model that a worker does
not have. Sorted lists and bisection: at 10,000 waiting an insert moves 80 KB of pointers, some microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

Place = tuple[bool, int, str, int, str]
"""(is_background, -priority, rank, position of the submission, job id): smaller is earlier."""


class QueueOrder(msgspec.Struct):
    """The waiting line of one queue."""

    places: list[Place] = []
    lanes: dict[str, dict[str, list[Place]]] = {}  # submitter -> model -> places

    def add(self, place: Place, submitter: str, model: str) -> None:
        """Put a job in line. A requeued job comes back to its old place, because its place has not changed."""
        insort(self.places, place)
        insort(self.lanes.setdefault(submitter, {}).setdefault(model, []), place)

    def remove(self, place: Place, submitter: str, model: str) -> None:
        """Take a job out of line; it must be there."""
        _take_out(self.places, place)
        models = self.lanes[submitter]
        lane = models[model]
        _take_out(lane, place)
        if not lane:
            del models[model]
        if not models:
            del self.lanes[submitter]

    def index(self, place: Place) -> int:
        """How many jobs stand before that place, whether they can run or not."""
        return bisect_left(self.places, place)

    def each_lane(self) -> Iterator[tuple[str, str, list[Place]]]:
        """Every lane: submitter, model, places."""
        for submitter, models in self.lanes.items():
            for model, lane in models.items():
                yield submitter, model, lane

    def __iter__(self) -> Iterator[str]:
        return (place[4] for place in self.places)

    def __len__(self) -> int:
        return len(self.places)


def _take_out(places: list[Place], place: Place) -> None:
    index = bisect_left(places, place)
    assert places[index : index + 1] == [place], f"{place} is not in line"
    del places[index]
