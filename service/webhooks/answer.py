"""What came of a request to an endpoint: said by who sends (service/webhooks/post.py), judged by the courier."""

from __future__ import annotations

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A status, or why there is none. `text` is the beginning of the body of an answer that is no success."""

    status: int | None = None
    error: str | None = None
    retry_after: str = ""
    text: str = ""
