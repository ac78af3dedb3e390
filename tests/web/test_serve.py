"""The listening socket of `safelight serve`; every test with a service process runs the rest."""

from __future__ import annotations

import socket

import pytest

from web.serve import _listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_a_delayed_acknowledgement(host: str) -> None:
    """asyncio sets TCP_NODELAY on accepted sockets of a listener that names TCP, and on no other."""
    with _listen(host, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_is_named() -> None:
    with _listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        listener.listen()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} .* choose another --port"):
            _listen("127.0.0.1", port)
