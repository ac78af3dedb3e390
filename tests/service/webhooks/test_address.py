"""The address guard: what a webhook may be given, and what its name may lead to."""

from __future__ import annotations

import pytest

from service.webhooks.address import Allowed, BadUrl, check_address, check_target, parse_allowed, parse_url

NOBODY = Allowed()
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "192.88.99.1", "168.63.129.16", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_in_a_url_and_behind_a_name(address: str) -> None:
    target = parse_url("https://example.org/")
    with pytest.raises(BadUrl, match="not public"):
        check_address(target, address, NOBODY)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(BadUrl):
        check_target(parse_url(f"https://{host}/"), NOBODY)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_accepted(address: str) -> None:
    check_address(parse_url("https://example.org/"), address, NOBODY)
    host = f"[{address}]" if ":" in address else address
    check_target(parse_url(f"https://{host}/hook?x=1"), NOBODY)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "http://[", "https://[::1",
        "https://", "https:///x", "https://example.org:0/", "https://example.org:99999/", "https://a b/",
        "https://user@example.org/", "https://user:pw@example.org/", "https://example.org/#x", "https://exa\nmple.org",
        "https://example.org\\@127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/",
        "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.0.0.1./", "https://localhost./",
        "https://１２７.0.0.1/", "https://ⓛocalhost/", "https://exa%6dple.org/", "https://-x.org/", "https://x..org/",
        "https://example.org/" + "x" * 2_000,
    ],
)  # fmt: skip
def test_an_odd_url_is_no_webhook(url: str) -> None:
    with pytest.raises(BadUrl):
        check_target(parse_url(url), NOBODY)


def test_http_is_for_named_hosts_only() -> None:
    with pytest.raises(BadUrl, match=r"--webhook-allow example\.org"):
        check_target(parse_url("http://example.org/"), NOBODY)
    check_target(parse_url("http://example.org/"), parse_allowed(["Example.org"]))


def test_a_named_host_may_lead_anywhere_and_a_network_only_to_itself() -> None:
    check_address(parse_url("http://receiver/"), "10.1.2.3", parse_allowed(["receiver"]))
    inside = parse_allowed(["10.1.0.0/16"])
    check_target(parse_url("http://10.1.2.3:9000/"), inside)
    check_address(parse_url("https://example.org/"), "::ffff:10.1.2.3", inside)
    with pytest.raises(BadUrl):
        check_target(parse_url("http://10.2.0.1/"), inside)
    with pytest.raises(BadUrl):
        check_address(parse_url("https://example.org/"), "10.2.0.1", inside)


@pytest.mark.parametrize("word", ["10.0.0.0/40", "10.0.0.1/8", "a/b", "", "http://x", "127.1", "x y"])
def test_an_exception_that_names_nothing_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="no host name, address or network"):
        parse_allowed([word])


def test_a_url_is_taken_apart_once() -> None:
    target = parse_url("HTTPS://Example.org:8443/a%20b?c=d")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.org", 8443, "/a%20b?c=d")
    assert (target.origin, target.authority) == ("https://example.org:8443", "example.org:8443")
    assert target.at("2606:4700::1111") == "https://[2606:4700::1111]:8443/a%20b?c=d"
    assert parse_url("https://example.org").authority == "example.org"
    assert parse_url("https://[2606:4700::1111]/").authority == "[2606:4700::1111]"
