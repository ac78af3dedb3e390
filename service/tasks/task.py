"""What every task is made of: a params struct with bounds and units, its private fields, its phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

MAX_SEED = 2**53 - 1
"""Largest seed: every JSON reader, JavaScript included, keeps integers exact up to here."""

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A stored file by its name: the hex SHA-256 of its bytes."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validated input of a job. A subclass is one task.

    `RUNNER` is the module that computes it, which only workers import (docs/tasks.md). `PRIVATE` names the fields
    that say something about the person who asked: the log keeps them in the erasable side row. `INPUTS` names the
    fields that hold the Digest of a file the job starts from; they are public. `PHASES` are the finer steps a
    worker reports, in order. Jobs of one model that are alike in the fields of `TOGETHER` can share calls of the
    denoiser (None: such jobs cannot).
    """

    TASK: ClassVar[str]
    RUNNER: ClassVar[str]
    PRIVATE: ClassVar[frozenset[str]] = frozenset()
    INPUTS: ClassVar[tuple[str, ...]] = ()
    PHASES: ClassVar[tuple[str, ...]] = ()
    STEPPING: ClassVar[str] = "denoising"  # the phase whose steps are told: without one for long, the attempt hangs
    TOGETHER: ClassVar[frozenset[str] | None] = None
    RUN_TIMEOUT_S: ClassVar[float] = 3600.0  # an attempt that runs longer is ended


def split_private(params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """The public and the private fields of `params`, as JSON-ready dicts."""
    fields: dict[str, Any] = msgspec.to_builtins(params)
    private = {name: fields.pop(name) for name in list(fields) if name in params.PRIVATE}
    return fields, private


def inputs_of(kind: type[Params], fields: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each file that a job of the task `kind` starts from, by field; `fields` are its params."""
    return {name: fields[name] for name in kind.INPUTS if fields.get(name) is not None}
