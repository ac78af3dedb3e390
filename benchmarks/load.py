"""A load generator that is not the bottleneck: raw sockets, prebuilt keep-alive requests, one epoll loop.

It runs in the harness's own process, never in the server's, and costs about a twentieth of what a bare route
costs its server; each Load says how much, so that this can be checked.
"""

from __future__ import annotations

import re
import select
import socket
import statistics
import time

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
RECEIVE_BYTES = 1 << 16
PATIENCE_S = 60.0


class Load(msgspec.Struct, frozen=True):
    """What some clients saw: seconds of each answer, over `wall_s`; `cpu_s` is what asking itself cost."""

    latencies_s: list[float]
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers a second over all clients."""
        return len(self.latencies_s) / self.wall_s

    @property
    def p50_s(self) -> float:
        """The median answer, seconds."""
        return statistics.median(self.latencies_s)


class UnexpectedAnswer(Exception):
    """A server answered with another status than 200, 201 or 202: the measurement is worth nothing."""


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of a keep-alive request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.sent_at = 0.0

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, asked: bytes) -> None:
        """Send a request; the answer before it has been taken."""
        self.sent_at = time.perf_counter()
        self._socket.sendall(asked)

    def take(self) -> bytes | None:
        """Receive once; the body when the answer is whole. Raises UnexpectedAnswer."""
        received = self._socket.recv(RECEIVE_BYTES)
        if not received:
            raise UnexpectedAnswer("the server closed a keep-alive connection; see its log")
        self._received += received
        end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, end + 2) if end >= 0 else None
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return None
        answer, self._received = self._received, b""
        if answer[9:12] not in (b"200", b"201", b"202"):
            raise UnexpectedAnswer(f"expected 200, 201 or 202, got: {answer[:600].decode('latin-1')}")
        return answer[end + 4 :]

    def ask(self, asked: bytes) -> bytes:
        """Send a request and wait for the body of its answer."""
        self.send(asked)
        while (body := self.take()) is None:
            pass
        return body

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def run(port: int, asked: bytes, *, clients: int, answers: int) -> Load:
    """`clients` connections that each ask again as soon as they are answered, `answers` answers in all."""
    every = [Client(port) for _ in range(clients)]
    by_number = {client.fileno(): client for client in every}
    latencies: list[float] = []
    with select.epoll() as poll:
        for client in every:
            poll.register(client.fileno(), select.EPOLLIN)
        began_at, began_cpu = time.perf_counter(), time.process_time()
        for client in every:
            client.send(asked)
        left = answers - clients
        while len(latencies) < answers:
            ready = poll.poll(PATIENCE_S)
            if not ready:
                raise UnexpectedAnswer(f"no answer within {PATIENCE_S:g} s; see the server's log")
            for number, _ in ready:
                client = by_number[number]
                if client.take() is None:
                    continue
                latencies.append(time.perf_counter() - client.sent_at)
                if left > 0:
                    left -= 1
                    client.send(asked)
        wall_s, cpu_s = time.perf_counter() - began_at, time.process_time() - began_cpu
    for client in every:
        client.close()
    return Load(latencies, wall_s, cpu_s)
