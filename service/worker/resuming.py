"""What a dead child leaves: which attempts begin again in the next one, and which have failed.

An attempt that did not compute alone begins again: another may have brought the process down, so they go one at a
time. One that did begins again as long as each process brought it further than the last: what its denoiser said is
on its tape, and nothing is computed twice. So a job that crashes at one step fails, after one try by itself.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from service.worker.held import Held


class Resuming:
    """Attempts that wait for their turn in the next child."""

    def __init__(self) -> None:
        self._waiting: deque[Held] = deque()

    def __contains__(self, held: Held) -> bool:
        return held in self._waiting

    def takes(self, held: Held, *, had_company: bool) -> bool:
        """Whether the attempt begins again; then it waits here."""
        if held.begun is None:
            return False
        bytes_kept = _size(Path(held.begun.tape))
        is_further, was_alone = bytes_kept > held.bytes_kept, held.was_alone
        held.bytes_kept, held.was_alone = bytes_kept, True
        if not is_further and (was_alone or not had_company):
            return False
        held.stage = "computing"
        self._waiting.append(held)
        return True

    def next(self) -> Held | None:
        """The attempt that begins now."""
        return self._waiting.popleft() if self._waiting else None

    def forget(self, held: Held) -> bool:
        """Take an attempt out; whether it waited."""
        if held not in self._waiting:
            return False
        self._waiting.remove(held)
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
