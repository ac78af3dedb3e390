"""A worker's end of the HTTP protocol, one request at a time, for the tests that decide what it says when."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import httpx

from tests.service_process import ServiceProcess


class HttpWorker:
    """A process of the name `worker`; it has a session once it has said hello."""

    def __init__(self, service: ServiceProcess, worker: str = "painter", boot: str = "b1") -> None:
        key = (service.data / "keys" / "worker.key").read_text().strip()
        self.client = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        self.who = {
            "worker": worker, "boot": boot, "models": {"pretend": ["pretend"]},
            "device": {"kind": "cpu", "name": "test"},
        }  # fmt: skip
        self.session = ""
        self._claims = itertools.count(1)

    def hello(self, *running: dict[str, Any]) -> dict[str, Any]:
        """Begin a session; gives its rules."""
        answer = self.client.post("/v1/worker/sessions", json={**self.who, "running": running})
        assert answer.status_code == 201, answer.text
        rules: dict[str, Any] = answer.json()
        self.session = rules["session"]
        return rules

    def say(self, word: str, attempt: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
        """A word in the session, about `attempt` if it is about one."""
        return self.client.post(f"/v1/worker/sessions/{self.session}/{word}", json={**(attempt or {}), **fields})

    def claim(self, wait_s: float = 20) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next job: its attempt, and all that its claim was answered with."""
        answer = self.say("claim", claim=f"claim-{next(self._claims)}", wait_s=wait_s)
        assert answer.status_code == 200, answer.text
        lease: dict[str, Any] = answer.json()
        return {name: lease[name] for name in ("job", "attempt", "token")}, lease

    @contextmanager
    def waiting_claim(self, wait_s: float = 60) -> Iterator[socket.socket]:
        """A claim that the service has begun to answer, on a connection of its own, hung up with the block.

        It is sent together with a heartbeat, and begins when that is answered.
        """
        url = self.client.base_url
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            claim = {"claim": f"claim-{next(self._claims)}", "wait_s": wait_s}
            connection.sendall(self._raw("heartbeat", {"running": []}) + self._raw("claim", claim))
            answer_of(connection)
            yield connection

    def _raw(self, word: str, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        head = {
            **self.client.headers,
            "Host": "127.0.0.1",
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
        }
        lines = [
            f"POST /v1/worker/sessions/{self.session}/{word} HTTP/1.1",
            *(f"{k}: {v}" for k, v in head.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + data

    def upload(self, attempt: dict[str, Any], data: bytes) -> httpx.Response:
        """Store a picture of the attempt."""
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Content-Type": "image/png"}
        return self.client.put(f"/v1/worker/artifacts/{digest}", params=attempt, content=data, headers=headers)

    def drain(self) -> httpx.Response:
        """End the session."""
        return self.client.delete(f"/v1/worker/sessions/{self.session}")


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    """Status and body of the next answer on a connection."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read() or "null")


def png(number: int) -> bytes:
    """A picture of one pixel, another one for each number below 2**24."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixel = zlib.compress(b"\0" + number.to_bytes(3))
    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def artifact(data: bytes) -> dict[str, Any]:
    """How a completion names a picture of one pixel."""
    digest = hashlib.sha256(data).hexdigest()
    return {"digest": digest, "media_type": "image/png", "bytes": len(data), "width": 1, "height": 1}
