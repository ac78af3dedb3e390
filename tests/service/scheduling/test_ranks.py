"""Places in line, among the jobs that can run."""

from __future__ import annotations

import pytest

from events.queues import Policy, Rules
from service import commands as ask
from service.scheduling.ranks import Ranks
from service.tasks.catalog import EMBEDDED
from tests.history import History


@pytest.mark.parametrize("policy", ["fifo", "fair"])
def test_a_rank_counts_only_jobs_that_a_worker_can_run(policy: Policy) -> None:
    history = History().with_queue().with_worker()  # which can pretend and nothing else
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy=policy)))
    history.submit("blocked", task="text-to-image", params={"prompt": "a star"})
    history.submit("first")
    history.submit("second")
    jobs, ranks = history.state.jobs, Ranks(history.state, EMBEDDED)
    assert [ranks.rank(jobs[job]) for job in ("blocked", "first", "second")] == [None, 1, 2]
    assert "no worker can run task text-to-image" in str(ranks.why_nobody(jobs["blocked"]))
