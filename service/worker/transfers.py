"""Files between worker and service over HTTP: results brought, pictures taken, for as long as the attempt lives."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from service.worker.backoff import pauses
from service.worker.frames import SpooledFile
from service.worker.session import authorization, is_loopback

if TYPE_CHECKING:
    import httpx

CHUNK_BYTES = 1 << 20
MAX_DAMAGED = 3  # times that a file may arrive as another before the store's copy is taken to be damaged
DONE = (200, 201)
STALE = 409
PASSING = (401, 403, 408, 425, 429)  # the key or the pace may be right at the next try

logger = logging.getLogger("safelight.worker")


class TransferRefused(Exception):
    """The service will never take, or give, this file: its answer, in words."""


class Transfers:
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
    ) -> Literal["done", "stale"]:
        """Upload until the service has the file or finds the attempt stale; `token` is asked at each try.

        Raises TransferRefused.
        """

        async def put() -> tuple[int, str]:
            answer = await self._open_client().put(
                self._address(file.digest),
                params={"job": job, "attempt": attempt, "token": token()},
                headers={"Content-Type": file.media_type, "Content-Length": str(file.bytes)},
                content=_chunks(path),
            )
            return answer.status_code, answer.text

        return await self._until_done(put, f"uploading the result of job {job}")

    async def fetch(
        self, path: Path, digest: str, job: str, attempt: int, token: Callable[[], int]
    ) -> Literal["done", "stale"]:
        """Download to `path` until all of the file is there or the attempt is found stale.

        Raises TransferRefused, also when what comes is time and again not the file of that digest.
        """
        damaged = 0

        async def get() -> tuple[int, str]:
            nonlocal damaged
            async with self._open_client().stream(
                "GET", self._address(digest), params={"job": job, "attempt": attempt, "token": token()}
            ) as answer:
                if answer.status_code != 200:
                    return answer.status_code, (await answer.aread()).decode(errors="replace")
                found = await _written(path, answer.aiter_bytes())
            if found == digest:
                return 200, ""
            damaged += 1
            words = f"the bytes have digest {found}, not {digest}; the store's copy is damaged"
            return (0, words) if damaged < MAX_DAMAGED else (422, words)

        return await self._until_done(get, f"fetching a picture of job {job}")

    async def _until_done(
        self, attempt: Callable[[], Awaitable[tuple[int, str]]], what: str
    ) -> Literal["done", "stale"]:
        import httpx  # costs 0.2 s, and a worker that moves no files never needs it

        for pause_s in pauses():
            try:
                status, words = await attempt()
            except httpx.HTTPError as error:
                status, words = 0, f"{type(error).__name__} {error}".strip()
            if status in DONE:
                return "done"
            if status == STALE:
                return "stale"
            if 400 <= status < 500 and status not in PASSING:
                raise TransferRefused(f"{status} {words[:500]}")
            logger.warning("%s failed (%s %s); trying again", what, status or "no answer", words[:500])
            await asyncio.sleep(pause_s)
        raise AssertionError("pauses() has no end")

    def _address(self, digest: str) -> str:
        return f"{self._server}/v1/worker/artifacts/{digest}"

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


async def _written(path: Path, chunks: AsyncIterator[bytes]) -> str:
    """Write `chunks` to the file, from its beginning; gives the digest of what came."""
    found = hashlib.sha256()
    with path.open("wb") as file:
        async for chunk in chunks:
            found.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    return found.hexdigest()
