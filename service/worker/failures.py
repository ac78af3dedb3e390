"""What went wrong in a pipeline, told to the client: its kind, a message, and a bounded traceback.

Neither may carry a prompt or a path of this machine: the text of a foreign exception often does.
"""

from __future__ import annotations

import errno
import re
import traceback

import msgspec

from service.tasks.task import Params
from service.worker.models import ModelMissing

MAX_DETAIL = 4000  # characters; the end is kept, where the error is

_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\s'\":,()\\/]+[\\/])+([^\s'\":,()\\/]*)")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")
_POISON_WORDS = ("cuda error", "cublas_status", "cudnn_status", "device-side assert")


class InvalidInput(Exception):
    """A file that the job starts from cannot be used. Says why and what to do, without paths."""


class BadOutput(Exception):
    """What the model gave is no picture, video or sound. Says why and what to do."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failure in the words of protocol.Failed. After a poisonous one the process can compute nothing more."""

    kind: str
    message: str
    detail: str | None
    is_poisonous: bool = False


def describe(error: BaseException, phase: str, params: Params) -> Failure:
    """The failure for what was raised in `phase` of a run with `params`."""
    detail = _detail(error, params)
    where = f"in phase {phase}" if phase else "before its first phase"
    text = str(error).lower()
    if isinstance(error, ModelMissing):
        return Failure(kind="model-missing", message=str(error), detail=detail)
    if isinstance(error, InvalidInput):
        return Failure(kind="invalid-input", message=str(error), detail=detail)
    if isinstance(error, BadOutput):
        return Failure(kind="bad-output", message=str(error), detail=detail)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"the worker's disk has no room {where}; free some where its --spool lies, then retry the job"
        return Failure(kind="disk-full", message=message, detail=detail)
    if is_out_of_memory(error):
        message = f"the device ran out of memory {where}; ask for a smaller picture or a smaller model"
        return Failure(kind="out-of-memory", message=message, detail=detail)
    if any(word in text for word in _POISON_WORDS):
        message = f"the device failed {where} and its process had to be ended; see the detail"
        return Failure(kind="crash", message=message, detail=detail, is_poisonous=True)
    message = f"the pipeline raised {type(error).__name__} {where}; see the detail"
    return Failure(kind="internal", message=message, detail=detail)


def is_out_of_memory(error: BaseException) -> bool:
    """torch has a class for it on CUDA; the CPU's and Apple's allocators raise a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def _detail(error: BaseException, params: Params) -> str:
    lines = [
        f"{_short(frame.filename)}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    words = _PATH.sub(r"\1", _without_private(str(error), params))
    return "\n".join([*lines, f"{type(error).__name__}: {words}"])[-MAX_DETAIL:]


def _short(path: str) -> str:
    """A source file below its package: what stands before it tells about the machine, not about the error."""
    for marker in ("/site-packages/", "/dist-packages/", "/service/worker/"):
        if marker in path:
            return path.rpartition(marker)[2]
    return path.rpartition("/")[2]


def _without_private(text: str, params: Params) -> str:
    for field in params.PRIVATE:
        value = getattr(params, field)
        if isinstance(value, str) and value:
            text = text.replace(value, f"<{field}>").replace(repr(value)[1:-1], f"<{field}>")
    return text
