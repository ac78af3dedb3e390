"""Which URL a webhook may have and which address it may lead to: the guard against requests into one's own network.

An address is accepted for what it is, never for not being on a list of bad ones alone: `ipaddress.is_global` says
True for forms that carry a private address (NAT64, 6to4, IPv4-mapped), so those are unwrapped or refused first.
Pure: names are resolved in service/webhooks/post.py, which connects to the very address that was checked here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS = 2_000

_URL = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible, long deprecated: some stacks still reach the IPv4 address inside
        "2001::/23",  # assigned to protocols, Teredo among them, which carries an IPv4 address
        "2002::/16",  # 6to4 does too
        "64:ff9b:1::/48",  # NAT64 of a network's own
        "192.0.0.0/24",  # assigned to protocols: one cloud has its metadata at 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # metadata of a cloud, at a public address
    )
)


class BadUrl(Exception):
    """The URL cannot be a webhook's; the message names what is wrong and what to do."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A URL taken apart once: what was checked is what is asked."""

    scheme: str
    host: str  # lower case, an IPv6 address without its brackets
    port: int
    path: str  # and query

    @property
    def origin(self) -> str:
        """Scheme, host and port, all that may be shown to everybody."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def at(self, address: str) -> str:
        """The URL with the address in the place of the name."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class Allowed(msgspec.Struct, frozen=True):
    """What the operator trusts beyond the public internet: host names, and networks of addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()


_PORTS = {"https": 443, "http": 80}


def parse_allowed(words: Iterable[str]) -> Allowed:
    """Host names, addresses and networks (CIDR), told apart. Raises ValueError naming what is none."""
    hosts, networks = set(), []
    for word in words:
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            name = word.lower()
            if "/" in word or not _is_name(name):
                raise ValueError(f"{word!r} is no host name, address or network ({error})") from None
            hosts.add(name)
    return Allowed(frozenset(hosts), tuple(networks))


def parse_url(url: str) -> Target:
    """The parts of a webhook's URL. Raises BadUrl unless it is a plain http or https URL in ASCII."""
    if len(url) > MAX_URL_CHARACTERS or not _URL.fullmatch(url):
        shown = repr(url[:60])
        raise BadUrl(f"{shown} is not accepted: use 1 to {MAX_URL_CHARACTERS} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadUrl(f"{url[:60]!r} is no URL ({error}); use https://host/path") from None
    if parts.scheme not in _PORTS:
        raise BadUrl(f"scheme {parts.scheme[:20]!r} is not accepted: use https://host/path")
    if parts.username is not None or parts.password is not None or parts.fragment or "\\" in url:
        raise BadUrl("a user name, password, fragment or backslash is not accepted: use https://host/path?query")
    if port == 0 or not (_literal(host) or _is_name(host)):
        raise BadUrl(f"host {parts.netloc[:60]!r} is not accepted: use a host name (punycode) or an IP address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], path=path)


def check_target(target: Target, allowed: Allowed) -> None:
    """Raise BadUrl for what no resolving is needed to refuse: http to a host nobody trusts, a private address."""
    address = _literal(target.host)
    is_trusted = target.host in allowed.hosts or (address is not None and _is_within(address, allowed.networks))
    if target.scheme == "http" and not is_trusted:
        raise BadUrl(
            f"http to {target.host} is not accepted: use https, or start with --webhook-allow {target.host}"
        )
    if address is not None:
        check_address(target, target.host, allowed)


def check_address(target: Target, address: str, allowed: Allowed) -> None:
    """Raise BadUrl unless `address`, which is or was found for the target's host, may be connected to."""
    if target.host in allowed.hosts:
        return
    found = _literal(address)
    if found is None or not (_is_within(found, allowed.networks) or _is_public(found)):
        raise BadUrl(
            f"host {target.host} leads to {address}, which is not public; "
            f"start with --webhook-allow {target.host} if it should be told"
        )


def _literal(host: str) -> Address | None:
    """The address that `host` is, with what an IPv6 form wraps taken out; None for a name or a scoped address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.scope_id is not None:
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_name(host: str) -> bool:
    """Whether `host` is a host name that no resolver takes for a number (127.1, 0x7f000001, 2130706433)."""
    return len(host) <= 253 and bool(_HOST.fullmatch(host)) and not _NUMERIC.fullmatch(host.rpartition(".")[2])


def _is_within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _is_public(address: Address) -> bool:
    is_odd = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not is_odd and not _is_within(address, _REFUSED)
