"""Handing result files to the service over HTTP PUT, for as long as the attempt lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from service.worker.backoff import pauses
from service.worker.frames import SpooledFile
from service.worker.session import authorization, is_loopback

if TYPE_CHECKING:
    import httpx

CHUNK_BYTES = 1 << 20
STORED = (200, 201)
STALE = 409
PASSING = (401, 403, 408, 425, 429)  # the key or the pace may be right at the next try

logger = logging.getLogger("safelight.worker")


class UploadRefused(Exception):
    """The service will never take this file: its answer, in words."""


class Uploads:
    """The HTTP client of one agent."""

    def __init__(self, server: str, key: str | None) -> None:
        self._server = server.rstrip("/")
        self._headers = authorization(key)
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.aclose()

    async def deliver(
        self, path: Path, file: SpooledFile, job: str, attempt: int, token: Callable[[], int]
    ) -> Literal["stored", "stale"]:
        """Upload until the service has the file or finds the attempt stale; `token` is asked at each try.

        Raises UploadRefused.
        """
        import httpx  # costs 0.2 s, and a worker that makes no files never needs it

        for pause_s in pauses():
            try:
                status, words = await self._put(path, file, job, attempt, token())
            except httpx.HTTPError as error:
                status, words = 0, f"{type(error).__name__} {error}".strip()
            if status in STORED:
                return "stored"
            if status == STALE:
                return "stale"
            if 400 <= status < 500 and status not in PASSING:
                raise UploadRefused(f"the service does not take the result: {words}")
            logger.warning("uploading the result of job %s failed (%s); trying again", job, words)
            await asyncio.sleep(pause_s)
        raise AssertionError("pauses() has no end")

    async def _put(self, path: Path, file: SpooledFile, job: str, attempt: int, token: int) -> tuple[int, str]:
        answer = await self._open_client().put(
            f"{self._server}/v1/worker/artifacts/{file.digest}",
            params={"job": job, "attempt": attempt, "token": token},
            headers={"Content-Type": file.media_type, "Content-Length": str(file.bytes)},
            content=_chunks(path),
        )
        return answer.status_code, f"{answer.status_code} {answer.text[:500]}"

    def _open_client(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers,
                timeout=httpx.Timeout(60.0, connect=10.0),
                trust_env=not is_loopback(self._server),
            )
        return self._client


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
