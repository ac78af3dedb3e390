"""The named no's of a command: each says what was refused, the value, what was expected and what to do.

web/errors.py maps each to an HTTP status once. A refusal appends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence


class Refusal(Exception):
    """An expected no. `kind` is stable and part of the API; the message is for people."""

    kind = "refused"

    def facts(self) -> dict[str, object]:
        """The typed fields of this refusal, JSON-ready."""
        return dict(vars(self))


class UnknownJob(Refusal):
    """There is no such job, or it is not the caller's to see."""

    kind = "unknown-job"

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job} is not known; list jobs with GET /v1/jobs")
        self.job = job


class UnknownQueue(Refusal):
    """There is no such queue."""

    kind = "unknown-queue"

    def __init__(self, queue: str, known: Sequence[str]) -> None:
        super().__init__(f"queue {queue!r} is not known; use one of {', '.join(known)}")
        self.field = "queue"
        self.queue = queue


class UnknownTask(Refusal):
    """There is no such task."""

    kind = "unknown-task"

    def __init__(self, task: str, known: Sequence[str]) -> None:
        super().__init__(f"task {task!r} is not known; use one of {', '.join(known)}")
        self.field = "task"
        self.task = task


class UnknownModel(Refusal):
    """The catalogue has no such model for the task, or none at all (`model` is then None)."""

    kind = "unknown-model"

    def __init__(self, model: str | None, task: str, known: Sequence[str]) -> None:
        said = f"model {model!r} is not in the catalogue" if model is not None else "no model is in the catalogue"
        advice = f"use one of {', '.join(known)}" if known else "add one to the service's models file"
        super().__init__(f"{said} for {task}; {advice}")
        self.field = "model"
        self.model = model
        self.task = task


class InvalidField(Refusal):
    """A field of the request cannot be used. `field` is a path such as params.steps."""

    kind = "invalid-field"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class IllegalTransition(Refusal):
    """The job's status does not allow the action."""

    kind = "illegal-transition"

    def __init__(self, job: str, status: str, wanted: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"job {job} is {status} and cannot become {wanted}; only a job that is {' or '.join(allowed)} can"
        )
        self.job = job
        self.status = status
        self.wanted = wanted
        self.allowed = list(allowed)


class QueueFull(Refusal):
    """The queue takes no more now: it is at its capacity, or closed for new jobs."""

    kind = "queue-full"

    def __init__(self, queue: str, why: str, retry_after_s: int) -> None:
        super().__init__(f"queue {queue} takes no more jobs now: {why}; try again in {retry_after_s} s")
        self.queue = queue
        self.retry_after_s = retry_after_s


class LimitReached(Refusal):
    """The submitter's key may not have more than this."""

    kind = "limit-reached"

    def __init__(self, limit: str, value: int, bound: int, retry_after_s: int) -> None:
        super().__init__(
            f"the submitter's key may have {bound} {limit} and has {value}; "
            "wait until some have ended, or ask for more"
        )
        self.limit = limit
        self.value = value
        self.bound = bound
        self.retry_after_s = retry_after_s


class CannotMove(Refusal):
    """The place asked for means nothing in this queue."""

    kind = "cannot-move"

    def __init__(self, job: str, why: str) -> None:
        super().__init__(f"job {job} cannot be moved there: {why}")
        self.job = job


class CountChanged(Refusal):
    """A bulk action would meet another number of jobs than the caller was shown."""

    kind = "count-changed"

    def __init__(self, expected: int, count: int) -> None:
        super().__init__(
            f"{expected} jobs were expected and {count} match now; look again, then repeat with {count}"
        )
        self.expected = expected
        self.count = count


class UnknownWorker(Refusal):
    """There is no such worker."""

    kind = "unknown-worker"

    def __init__(self, worker: str) -> None:
        super().__init__(f"worker {worker} is not known; list workers with GET /v1/workers")
        self.worker = worker


class UnknownBatch(Refusal):
    """There is no such batch, or it is not the caller's to see."""

    kind = "unknown-batch"

    def __init__(self, batch: str) -> None:
        super().__init__(f"batch {batch} is not known; a submission of several jobs answers with its id")
        self.batch = batch


class StaleAttempt(Refusal):
    """The attempt that reports no longer holds the job."""

    kind = "stale-attempt"

    def __init__(self, job: str, attempt: int, token: int, why: str) -> None:
        super().__init__(f"attempt {attempt} (token {token}) no longer holds job {job}: {why}; drop it")
        self.job = job
        self.attempt = attempt
        self.token = token


class NotLeasable(Refusal):
    """The offer no longer stands: the job was cancelled, taken, or its queue paused meanwhile."""

    kind = "not-leasable"

    def __init__(self, job: str, why: str) -> None:
        super().__init__(f"job {job} cannot be leased: {why}; take another offer")
        self.job = job
        self.why = why


class IdempotencyConflict(Refusal):
    """The idempotency key was used before, for another request."""

    kind = "idempotency-conflict"

    def __init__(self, key: str, job: str) -> None:
        super().__init__(f"idempotency key {key!r} was used for job {job} with another body; use a new key")
        self.key = key
        self.job = job


class FencedBoot(Refusal):
    """A newer process of the same worker name has taken over."""

    kind = "fenced-boot"

    def __init__(self, worker: str, boot: str) -> None:
        super().__init__(f"worker {worker} boot {boot} was replaced by a newer process; give each its own --name")
        self.worker = worker


class UnknownSession(Refusal):
    """The worker's session has ended, or the service has been started anew since."""

    kind = "unknown-session"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session[:64]} has ended or was never begun here; say hello again with "
            "POST /v1/worker/sessions and name the attempts you still have"
        )
        self.session = session[:64]


class UnknownKey(Refusal):
    """There is no such API key."""

    kind = "unknown-key"

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key} is not known or already revoked; list keys with `safelight keys`")
        self.key = key


class UnknownWebhook(Refusal):
    """There is no such webhook."""

    kind = "unknown-webhook"

    def __init__(self, webhook: str) -> None:
        super().__init__(f"webhook {webhook} is not known; list webhooks with `safelight webhooks list`")
        self.webhook = webhook


class UnknownDelivery(Refusal):
    """The webhook has no such delivery, or no longer: they are kept for 30 days."""

    kind = "unknown-delivery"

    def __init__(self, webhook: str, delivery: str) -> None:
        super().__init__(
            f"webhook {webhook} has no delivery {delivery}; list them with GET /v1/webhooks/{webhook}/deliveries"
        )
        self.webhook = webhook
        self.delivery = delivery


class TooManyWebhooks(Refusal):
    """Each webhook costs work at every event, so there is a bound."""

    kind = "too-many-webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} webhooks, which is the most; remove one that is no longer needed")
        self.most = most


class BuiltInWebhook(Refusal):
    """The webhook that signs callbacks has no address: only its secret can be changed."""

    kind = "built-in-webhook"

    def __init__(self, webhook: str, action: str) -> None:
        super().__init__(
            f"webhook {webhook} cannot be {action}: it only signs the callbacks of jobs; make one of your own"
        )
        self.webhook = webhook
