"""A small server that speaks as much of the hub as fetching needs: the tree of a commit, and files by ranges."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c" * 40


class Hub:
    """Repositories by name, each a folder. `got` has (file, first byte) of every download."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.repositories = repositories
        self.got: list[tuple[str, int]] = []
        self.break_after: dict[str, int] = {}  # file -> bytes after which its connection breaks, once
        self.hang_after: dict[str, int] = {}  # file -> bytes after which its answer never ends
        self.lie_about: str | None = None  # a file that is sent with another content than was promised
        self.has_ranges = True
        self.url = ""
        self.ended = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET or HEAD."""
        path = request.path.partition("?")[0].strip("/")
        for name, folder in self.repositories.items():
            if path == f"api/models/{name}/tree/{COMMIT}":
                _send(request, json.dumps(_tree(folder)).encode(), {"Content-Type": "application/json"})
                return
            before = f"{name}/resolve/{COMMIT}/"
            if path.startswith(before) and (folder / path.removeprefix(before)).is_file():
                self._send_file(request, folder, path.removeprefix(before))
                return
        kind = "RevisionNotFound" if any(name in path for name in self.repositories) else "RepoNotFound"
        _send(request, b"", {"X-Error-Code": kind}, status=404)

    def _send_file(self, request: BaseHTTPRequestHandler, folder: Path, name: str) -> None:
        content = (folder / name).read_bytes()
        wanted = request.headers.get("Range", "bytes=0-") if self.has_ranges else "bytes=0-"
        first = int(wanted.removeprefix("bytes=").partition("-")[0])
        if first and first >= len(content):
            _send(request, b"", {}, status=416)
            return
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}",
        }
        if request.command == "HEAD":
            _send(request, content, headers)
            return
        self.got.append((name, first))
        if name == self.lie_about:
            content = bytes(len(content))
        hang, cut = self.hang_after.get(name), self.break_after.pop(name, None)
        _send(request, content[first:], headers, status=206 if first else 200, cut=hang or cut)
        if hang is not None:
            self.ended.wait(60)


def _tree(folder: Path) -> list[dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {
            "type": "file",
            "path": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]


def _send(
    request: BaseHTTPRequestHandler,
    body: bytes,
    headers: Mapping[str, str],
    *,
    status: int = 200,
    cut: int | None = None,
) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "HEAD":
        return
    request.wfile.write(body[:cut])
    request.wfile.flush()
    request.close_connection = cut is not None


@contextmanager
def running_hub(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """The server, at `url` until the block ends."""
    hub = Hub(repositories)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()
