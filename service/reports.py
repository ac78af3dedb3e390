"""What a worker's report asks for: the one place where words of the protocol become commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from events.jobs import ArtifactRef, ErrorKind, JobError
from service import commands as ask
from service import protocol as say

MAX_PHASE, MAX_MESSAGE, MAX_DETAIL = 64, 2_000, 8_000  # characters kept of what a worker says

_KINDS = frozenset(get_args(ErrorKind))


def command_of(message: say.Reported, is_stored: Callable[[str], bool]) -> ask.Command:
    """The command that a numbered report asks for.

    A completion that names a file which is not in the store is a failure: a completed job's files are there.
    """
    held: dict[str, Any] = {"job": message.job, "attempt": message.attempt, "token": message.token}
    match message:
        case say.Phase(phase=phase):
            return ask.ReportPhase(phase=phase[:MAX_PHASE], **held)
        case say.Completed(artifacts=artifacts, facts=facts):
            missing = [artifact.digest for artifact in artifacts if not is_stored(artifact.digest)]
            if missing:
                return ask.FailAttempt(error=_never_stored(missing[0]), **held)
            refs = tuple(msgspec.convert(a, ArtifactRef, from_attributes=True) for a in artifacts)
            return ask.CompleteJob(artifacts=refs, facts=facts, **held)
        case say.Failed(kind=kind, message=text, detail=detail):
            known = kind if kind in _KINDS else "internal"
            error = JobError(
                kind=known,  # type: ignore[arg-type]
                message=text[:MAX_MESSAGE],
                detail=detail[:MAX_DETAIL] if detail else None,
            )
            return ask.FailAttempt(error=error, **held)
        case say.Stopped(step=step):
            return ask.ConfirmStop(step=step, **held)
    raise AssertionError(f"{type(message).__name__} is no report")


def _never_stored(digest: str) -> JobError:
    return JobError(
        kind="internal",
        message=f"the worker named a result {digest[:64]} that is not in the artifact store; retry the job, "
        "and look at the store's disk if it happens again",
    )
