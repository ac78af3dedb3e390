"""What every task is made of: a params struct with bounds and units, its private fields, its phases."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

MAX_SEED = 2**53 - 1
"""Largest seed: every JSON reader, JavaScript included, keeps integers exact up to here."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validated input of a job. A subclass is one task.

    `PRIVATE` names the fields that say something about the person who asked: the log keeps them in the
    erasable side row. `PHASES` are the finer steps a worker reports, in order. Jobs of one model that are alike in
    the fields of `TOGETHER` can share calls of the denoiser (None: such jobs cannot).
    """

    TASK: ClassVar[str]
    PRIVATE: ClassVar[frozenset[str]] = frozenset()
    PHASES: ClassVar[tuple[str, ...]] = ()
    TOGETHER: ClassVar[frozenset[str] | None] = None
    RUN_TIMEOUT_S: ClassVar[float] = 3600.0  # an attempt that runs longer is ended


def split_private(params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """The public and the private fields of `params`, as JSON-ready dicts."""
    fields: dict[str, Any] = msgspec.to_builtins(params)
    private = {name: fields.pop(name) for name in list(fields) if name in params.PRIVATE}
    return fields, private
