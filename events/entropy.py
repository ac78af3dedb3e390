"""Randomness of the operating system, fetched a page at a time.

A system call for each few bytes lets go of the interpreter lock, and getting it back from a busy thread costs more
than the bytes: it was a tenth of a submit.
"""

from __future__ import annotations

import os

PAGE_BYTES = 4096


class Entropy:
    """Bytes that nobody else gets. For one thread."""

    def __init__(self) -> None:
        self._page = b""
        self._taken = 0

    def take(self, count: int) -> bytes:
        """`count` random bytes, at most PAGE_BYTES."""
        assert count <= PAGE_BYTES, f"{count} bytes are more than a page of {PAGE_BYTES}"
        if self._taken + count > len(self._page):
            self._page, self._taken = os.urandom(PAGE_BYTES), 0
        start, self._taken = self._taken, self._taken + count
        return self._page[start : self._taken]
