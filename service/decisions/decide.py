"""Which decision answers which command: the one place where a transaction meets the pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.envelope import Draft
from events.log import Transaction
from projections.live import LiveJob, LiveState, fold_stream
from service import commands as ask
from service.decisions.control import cancel, create_queue, pause_queue, resume_queue, retry
from service.decisions.keys import create_key, revoke_key
from service.decisions.lease import expire_lease, lease
from service.decisions.report import complete_job, confirm_stop, fail_attempt, is_repeat, report_phase
from service.decisions.submit import submit
from service.decisions.webhooks import (
    change_webhook,
    create_webhook,
    ping_webhook,
    redeliver_webhook,
    remove_webhook,
    rotate_webhook_secret,
    settle_delivery,
)
from service.decisions.workers import lose, register
from service.refusals import StaleAttempt

Report = ask.ReportPhase | ask.CompleteJob | ask.FailAttempt | ask.ConfirmStop

_OVER_STATE: dict[type[ask.Command], Callable[[LiveState, Any], list[Draft]]] = {
    ask.SubmitJob: submit,
    ask.LeaseJob: lease,
    ask.ExpireLease: expire_lease,
    ask.CreateQueue: create_queue,
    ask.PauseQueue: pause_queue,
    ask.ResumeQueue: resume_queue,
    ask.RegisterWorker: register,
    ask.LoseWorker: lose,
    ask.CreateKey: create_key,
    ask.RevokeKey: revoke_key,
    ask.CreateWebhook: create_webhook,
    ask.ChangeWebhook: change_webhook,
    ask.RotateWebhookSecret: rotate_webhook_secret,
    ask.RemoveWebhook: remove_webhook,
    ask.PingWebhook: ping_webhook,
    ask.RedeliverWebhook: redeliver_webhook,
    ask.SettleDelivery: settle_delivery,
}
_OVER_JOB: dict[type[ask.Command], Callable[[LiveJob | None, Any], list[Draft]]] = {
    ask.CancelJob: cancel,
    ask.RetryJob: retry,
}
_REPORTS: dict[type[ask.Command], Callable[[LiveState, Any], list[Draft]]] = {
    ask.ReportPhase: report_phase,
    ask.CompleteJob: complete_job,
    ask.FailAttempt: fail_attempt,
    ask.ConfirmStop: confirm_stop,
}


def decide(tx: Transaction[LiveState], command: ask.Command) -> list[Draft]:
    """The events that `command` causes, or the refusal it meets."""
    kind = type(command)
    if kind in _OVER_STATE:
        return _OVER_STATE[kind](tx.state, command)
    if kind in _OVER_JOB:
        return _OVER_JOB[kind](job_of(tx, command.job), command)  # type: ignore[attr-defined]
    return _decide_report(tx, command)  # type: ignore[arg-type]


def job_of(tx: Transaction[LiveState], job: str) -> LiveJob | None:
    """The job, from live state while it is unfinished, else folded from its own stream."""
    return tx.state.jobs.get(job) or fold_stream(tx.stream(f"job/{job}"))


def _decide_report(tx: Transaction[LiveState], command: Report) -> list[Draft]:
    """A report that already took effect is answered like the first time: nothing more to append."""
    try:
        return _REPORTS[type(command)](tx.state, command)
    except StaleAttempt:
        if is_repeat(tx.stream(f"job/{command.job}"), command.attempt, command.token):
            return []
        raise
