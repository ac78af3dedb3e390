"""Which decision answers which command: the one place where a transaction meets the pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.envelope import Draft
from events.log import Transaction
from projections.live import LiveState
from projections.live_job import LiveJob, fold_stream
from service import commands as ask
from service.decisions import control, keys, lease, queues, report, sweep, webhooks, workers
from service.decisions.edit import edit
from service.decisions.submit import submit, submit_batch
from service.refusals import StaleAttempt
from service.tasks.catalog import Catalog

Report = ask.ReportPhase | ask.CompleteJob | ask.FailAttempt | ask.ConfirmStop

_OVER_STATE: dict[type[ask.Command], Callable[[LiveState, Any], list[Draft]]] = {
    ask.LeaseJob: lease.lease,
    ask.MoveJob: control.move,
    ask.CreateQueue: queues.create_queue,
    ask.ConfigureQueue: queues.configure_queue,
    ask.PauseQueue: queues.pause_queue,
    ask.DrainQueue: queues.drain_queue,
    ask.ResumeQueue: queues.resume_queue,
    ask.PruneQueue: queues.prune_queue,
    ask.LoseWorker: workers.lose,
    ask.ReleaseWorker: workers.release_worker,
    ask.CreateKey: keys.create_key,
    ask.RevokeKey: keys.revoke_key,
    ask.LimitKey: keys.limit_key,
    ask.CreateWebhook: webhooks.create_webhook,
    ask.ChangeWebhook: webhooks.change_webhook,
    ask.RotateWebhookSecret: webhooks.rotate_webhook_secret,
    ask.RemoveWebhook: webhooks.remove_webhook,
    ask.PingWebhook: webhooks.ping_webhook,
    ask.RedeliverWebhook: webhooks.redeliver_webhook,
    ask.SettleDelivery: webhooks.settle_delivery,
}
_WITH_CATALOG: dict[type[ask.Command], Callable[[LiveState, Any, int, Catalog], list[Draft]]] = {
    ask.SubmitJob: submit,
    ask.SubmitBatch: submit_batch,
}
_IN_TIME: dict[type[ask.Command], Callable[[LiveState, Any, int], list[Draft]]] = {
    ask.ExpireLease: lease.expire_lease,
    ask.TimeOutAttempt: lease.time_out,
    ask.Sweep: sweep.sweep,
    ask.RegisterWorker: workers.register,
}
_OVER_JOB: dict[type[ask.Command], Callable[[LiveJob | None, Any], list[Draft]]] = {
    ask.CancelJob: control.cancel,
    ask.HoldJob: control.hold,
    ask.ReleaseJob: control.release,
}
_REPORTS: dict[type[ask.Command], Callable[[LiveState, Any, int], list[Draft]]] = {
    ask.ReportPhase: report.report_phase,
    ask.CompleteJob: report.complete_job,
    ask.FailAttempt: report.fail_attempt,
    ask.ConfirmStop: report.confirm_stop,
}


def decide(tx: Transaction[LiveState], command: ask.Command, catalog: Catalog) -> list[Draft]:
    """The events that `command` causes, or the refusal it meets. `catalog` is what can be generated."""
    kind = type(command)
    if kind in _WITH_CATALOG:
        return _WITH_CATALOG[kind](tx.state, command, tx.at_us, catalog)
    if kind in _IN_TIME:
        return _IN_TIME[kind](tx.state, command, tx.at_us)
    if kind in _OVER_STATE:
        return _OVER_STATE[kind](tx.state, command)
    if kind in _OVER_JOB:
        return _OVER_JOB[kind](job_of(tx, command.job), command)  # type: ignore[attr-defined]
    if isinstance(command, ask.RetryJob):
        return control.retry(tx.state, job_of(tx, command.job), command)
    if isinstance(command, ask.EditJob):
        return edit(tx.state, tx.stream(f"job/{command.job}"), command, catalog)
    return _decide_report(tx, command)  # type: ignore[arg-type]


def job_of(tx: Transaction[LiveState], job: str) -> LiveJob | None:
    """The job, from live state while it is unfinished, else folded from its own stream."""
    return tx.state.jobs.get(job) or fold_stream(tx.stream(f"job/{job}"))


def _decide_report(tx: Transaction[LiveState], command: Report) -> list[Draft]:
    """A report that already took effect is answered like the first time: nothing more to append."""
    try:
        return _REPORTS[type(command)](tx.state, command, tx.at_us)
    except StaleAttempt:
        if report.is_repeat(tx.stream(f"job/{command.job}"), command.attempt, command.token):
            return []
        raise
