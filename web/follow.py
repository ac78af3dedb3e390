"""Following the push socket from the command line: every message once, over lost connections."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from web.client import Client, ClientError

SUBPROTOCOL = Subprotocol("safelight.v1")
PATIENCE_S = 60.0  # how long a service may be away before following it is given up
FINAL = (4400, 4401, 4403, 4406)  # close codes after which trying again is useless


def follow(client: Client, *, after: int | None = None, job: str | None = None) -> Iterator[dict[str, Any]]:
    """Messages of the push protocol (docs/push.md), from now on or from behind position `after`.

    Reconnects by itself and resumes behind the last position seen. Raises ClientError when the service is
    away for longer than a minute, or refuses.
    """
    position, lost_at, wait_s = after, time.monotonic(), 0.25
    while True:
        try:
            for message in _session(client, position, job):
                position = message.get("position") or message.get("through") or message.get("as_of") or position
                lost_at, wait_s = time.monotonic(), 0.25
                yield message
        except InvalidStatus as error:
            raise ClientError(
                f"{client.url} refused to push ({error.response.status_code}); set --key or SAFELIGHT_KEY"
            ) from error
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code in FINAL:
                raise ClientError(f"{client.url} ended the push: {error.rcvd.reason}") from error
        except (OSError, WebSocketException) as error:
            if time.monotonic() - lost_at > PATIENCE_S:
                raise ClientError(f"no push from {client.url} for {PATIENCE_S:g} s ({error})") from error
        time.sleep(wait_s * random.uniform(0.5, 1.5))
        wait_s = min(5.0, wait_s * 2)


def _session(client: Client, after: int | None, job: str | None) -> Iterator[dict[str, Any]]:
    query = {name: value for name, value in (("after", after), ("job", job)) if value is not None}
    address = f"{client.url.replace('http', 'ws', 1)}/v1/events?{urlencode(query)}"
    with connect(
        address,
        subprotocols=[SUBPROTOCOL],
        additional_headers=client.headers,
        compression=None,
        max_size=None,
    ) as socket:
        for frame in socket:
            decoded = msgspec.json.decode(frame)
            yield from decoded if isinstance(decoded, list) else [decoded]
