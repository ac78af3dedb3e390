"""What can be asked: one frozen struct a wish, in the imperative. Decisions say whether it may happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from events.jobs import ArtifactRef, JobError
from events.keys import Limits, Scope
from events.queues import PauseReason, Rules
from events.workers import Device, LossReason
from service.pictures import Picture

DeliveryOutcome = Literal["delivered", "gave-up", "gone"]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every command."""

    @property
    def many(self) -> int:
        """The most records it may cause, roughly: what causes many is not decided in the event loop."""
        return 1


class SubmitJob(Command, frozen=True, kw_only=True):
    """Put a job in a queue. `job` and `seed` are drawn by the caller; `seed` is used if params have none.

    `pictures` are those of the store that the params name, by digest. Instants are UTC microseconds.
    """

    job: str
    submitter: str
    seed: int
    params: dict[str, Any]
    pictures: Mapping[str, Picture] = {}
    queue: str = "default"
    task: str | None = None
    model: str | None = None
    priority: int = 50
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request_digest: str | None = None
    metadata: dict[str, str] = {}
    parent: str | None = None  # known, checked by the caller
    is_background: bool = False
    is_held: bool = False
    not_before_us: int | None = None
    start_deadline_us: int | None = None
    finish_deadline_us: int | None = None
    callback: str | None = None  # URL, checked by the caller


class SubmitBatch(Command, frozen=True, kw_only=True):
    """Put several jobs in one queue, all of them or none. The idempotency key is that of the first."""

    batch: str
    jobs: tuple[SubmitJob, ...]
    callback: str | None = None  # URL, checked by the caller

    @property
    def many(self) -> int:
        """One a job."""
        return len(self.jobs)


class LeaseJob(Command, frozen=True, kw_only=True):
    """Give a waiting job to a worker that accepted it. `passed` and `eta_s`: see events.jobs.JobLeased."""

    job: str
    worker: str
    boot: str
    lease_s: float
    passed: str | None = None
    eta_s: float | None = None


class ReportPhase(Command, frozen=True, kw_only=True):
    """The attempt entered a phase."""

    job: str
    attempt: int
    token: int
    phase: str


class CompleteJob(Command, frozen=True, kw_only=True):
    """The attempt delivered; its artifacts are already stored."""

    job: str
    attempt: int
    token: int
    artifacts: tuple[ArtifactRef, ...]
    facts: dict[str, Any]


class FailAttempt(Command, frozen=True, kw_only=True):
    """The attempt failed."""

    job: str
    attempt: int
    token: int
    error: JobError


class ConfirmStop(Command, frozen=True, kw_only=True):
    """The attempt stopped because it was told to cancel."""

    job: str
    attempt: int
    token: int
    step: int


class CancelJob(Command, frozen=True, kw_only=True):
    """End a job that waits, or tell the worker of a running one to stop."""

    job: str


class RetryJob(Command, frozen=True, kw_only=True):
    """Send a failed, cancelled or expired job back to its queue."""

    job: str


class HoldJob(Command, frozen=True, kw_only=True):
    """Take a waiting job out of line until it is released."""

    job: str


class ReleaseJob(Command, frozen=True, kw_only=True):
    """Put a held job back at its place."""

    job: str


class MoveJob(Command, frozen=True, kw_only=True):
    """Move a job that is in line: to the top or bottom, or right before or after another one."""

    job: str
    where: Literal["top", "bottom", "before", "after"]
    other: str | None = None  # for before and after


class EditJob(Command, frozen=True, kw_only=True):
    """Change a job that does not run; one that has ended goes back to its queue. None leaves a field as it is.

    `params` are merged into those the job has; a param of None goes back to its default. `seed` is used when the
    seed is taken back. `pictures` are those of the store that old or new params name, by digest.
    """

    job: str
    seed: int
    pictures: Mapping[str, Picture] = {}
    queue: str | None = None
    model: str | None = None
    params: dict[str, Any] | None = None
    priority: int | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, str] | None = None
    is_background: bool | None = None


class Sweep(Command, frozen=True, kw_only=True):
    """Do what time alone has brought by now: jobs become due, deadlines pass. At most `limit` jobs."""

    limit: int

    @property
    def many(self) -> int:
        """One a job."""
        return self.limit


class TimeOutAttempt(Command, frozen=True, kw_only=True):
    """The attempt takes longer than anybody waits for: it is ended, whether its worker answers or not."""

    job: str
    attempt: int
    why: str


class ExpireLease(Command, frozen=True, kw_only=True):
    """The attempt's worker has been silent for longer than its lease."""

    job: str
    attempt: int


class CreateQueue(Command, frozen=True, kw_only=True):
    """Make a queue exist."""

    queue: str


class ConfigureQueue(Command, frozen=True, kw_only=True):
    """Run the queue by these rules; it is made if there is none of that name."""

    queue: str
    rules: Rules


class PauseQueue(Command, frozen=True, kw_only=True):
    """Lease nothing more from the queue; what runs goes on."""

    queue: str
    reason: PauseReason = "operator"


class DrainQueue(Command, frozen=True, kw_only=True):
    """Take no new jobs; those that wait are still run."""

    queue: str


class PruneQueue(Command, frozen=True, kw_only=True):
    """Let the jobs that ended at position `through` or before leave the views."""

    queue: str
    through: int


class ResumeQueue(Command, frozen=True, kw_only=True):
    """Lease from the queue, and take new jobs, again."""

    queue: str


class HeldAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that a worker says it still has."""

    job: str
    attempt: int
    token: int


class RegisterWorker(Command, frozen=True, kw_only=True):
    """A worker says hello, with everything it still holds."""

    worker: str
    boot: str
    models: dict[str, tuple[str, ...]]
    device: Device
    slots: int
    versions: dict[str, str]
    held: tuple[HeldAttempt, ...]
    lease_s: float


class LoseWorker(Command, frozen=True, kw_only=True):
    """The worker's process is gone."""

    worker: str
    boot: str
    reason: LossReason


class ReleaseWorker(Command, frozen=True, kw_only=True):
    """Let a quarantined worker have jobs again."""

    worker: str


class CreateKey(Command, frozen=True, kw_only=True):
    """Make an API key whose secret has this digest."""

    key: str
    name: str
    scopes: tuple[Scope, ...]
    secret_digest: str


class LimitKey(Command, frozen=True, kw_only=True):
    """Bound what a key may ask for."""

    key: str
    limits: Limits


class RevokeKey(Command, frozen=True, kw_only=True):
    """Let a key open nothing any more."""

    key: str


class CreateWebhook(Command, frozen=True, kw_only=True):
    """Tell `url` of these event types, of these queues (none: of all), signed with `secret`."""

    webhook: str
    url: str
    secret: str
    events: tuple[str, ...]
    queues: tuple[str, ...] = ()


class ChangeWebhook(Command, frozen=True, kw_only=True):
    """Give a webhook another address, filter or state; None leaves it as it is."""

    webhook: str
    url: str | None = None
    events: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None
    is_enabled: bool | None = None


class RotateWebhookSecret(Command, frozen=True, kw_only=True):
    """Sign with another secret; the old one signs too for a day."""

    webhook: str
    secret: str


class RemoveWebhook(Command, frozen=True, kw_only=True):
    """Tell it nothing any more and forget what it was told."""

    webhook: str


class PingWebhook(Command, frozen=True, kw_only=True):
    """Send a test message, once."""

    webhook: str


class RedeliverWebhook(Command, frozen=True, kw_only=True):
    """Send a delivery again."""

    webhook: str
    delivery: str


class SettleDelivery(Command, frozen=True, kw_only=True):
    """A round of a delivery has ended; `gone` means that the endpoint answered 410."""

    webhook: str
    delivery: str
    round: int
    attempts: int
    outcome: DeliveryOutcome
