from __future__ import annotations

import pytest

from service.worker.session import authorization, is_loopback, worker_url


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/v1/worker"),
        ("https://gpu.example/safelight/", "wss://gpu.example/safelight/v1/worker"),
        ("http://[::1]:80", "ws://[::1]:80/v1/worker"),
    ],
)
def test_the_socket_lies_below_the_services_address(server: str, url: str) -> None:
    assert worker_url(server) == url


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://10.0.0.1", False),
        ("https://gpu.example", False),
    ],
)
def test_a_proxy_is_never_asked_for_this_machine(server: str, expected: bool) -> None:
    assert is_loopback(server) is expected


def test_without_a_key_no_header_is_sent() -> None:
    assert authorization(None) == {}
    assert authorization("k") == {"Authorization": "Bearer k"}
