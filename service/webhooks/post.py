"""One request to an endpoint: the name resolved, every address checked, the checked address connected to.

The request carries the address in its URL and the name in Host and in TLS, so nobody resolves the name a second
time (DNS rebinding). Redirects are failures, proxies of the environment are not asked, and a connection is never
used for another request: it was verified for one name only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

import httpx

from service.webhooks.address import Allowed, BadUrl, Target, check_address, check_target, parse_url
from service.webhooks.answer import Answer

TIMEOUT_S = 15.0
"""For the whole request, from resolving to the last byte read: the lower end of what the specification asks."""

MAX_ANSWER_BYTES = 1_024
"""What is read of an answer at most: enough to see why a delivery was refused."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # else it logs whole URLs, and many carry a token

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host name. Raises OSError when there are none."""


async def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver gives."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Post:
    """Sends requests to whatever address is allowed."""

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolve: Resolve = resolve_by_system,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`tls` tells which authorities are believed, the public ones unless given."""
        self._allowed = allowed
        self._resolve = resolve
        self._tls = tls or httpx.create_ssl_context(trust_env=False)  # made once: it takes 20 ms
        self._timeout_s = timeout_s

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST the body; whatever goes wrong is in the answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                target = parse_url(url)
                check_target(target, self._allowed)
                return await self._send_to(target, await self._addresses(target), headers, body)
        except BadUrl as error:
            return Answer(error=str(error))
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout_s:g} s")
        except (OSError, httpx.HTTPError) as error:
            return Answer(error=f"no answer from {_shown(url)} ({_words(error)})")

    async def _addresses(self, target: Target) -> list[str]:
        """Where the target may be reached. Raises BadUrl unless every address it has is allowed."""
        addresses = await self._resolve(target.host, target.port)
        if not addresses:
            raise OSError(f"{target.host} has no address")
        for address in addresses:
            check_address(target, address, self._allowed)
        return addresses

    async def _send_to(
        self, target: Target, addresses: list[str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        *others, last = addresses
        for address in others:
            try:
                return await self._ask(target, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # an IPv6 address where there is only IPv4, for one
        return await self._ask(target, last, headers, body)

    async def _ask(self, target: Target, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        asked = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": "safelight",
            "Accept-Encoding": "identity",
            **headers,
        }
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=self._timeout_s) as client,
            client.stream(
                "POST", target.at(address), headers=asked, content=body, extensions={"sni_hostname": target.host}
            ) as response,
        ):
            text = "" if response.is_success else await _beginning(response)
            return Answer(
                status=response.status_code, retry_after=response.headers.get("retry-after", ""), text=text
            )


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of the body as text, as they are on the wire: nothing is unpacked."""
    read = b""
    async for chunk in response.aiter_raw(MAX_ANSWER_BYTES):
        read += chunk
        if len(read) >= MAX_ANSWER_BYTES:
            break
    return "".join(c if c.isprintable() else " " for c in read[:MAX_ANSWER_BYTES].decode(errors="replace")).strip()


def _shown(url: str) -> str:
    """The part of the URL that is no secret."""
    return parse_url(url).origin


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
