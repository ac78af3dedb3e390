from __future__ import annotations

from itertools import islice

from service.worker.backoff import pauses


def test_pauses_grow_to_their_bound_and_never_leave_it() -> None:
    some = list(islice(pauses(0.2, 5.0), 50))
    assert all(0.2 <= pause <= 5.0 for pause in some)
    assert some[0] == 0.2
    assert min(some[10:]) >= 2.5


def test_two_workers_do_not_come_back_together() -> None:
    assert len({next(islice(pauses(), 9, 10)) for _ in range(20)}) > 10
