"""What people type on the command line: instants, spans, bounds and pairs. Each error shows an example."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class When(click.ParamType[str]):
    """An instant: RFC 3339, a local date and time, a local time, or a span from now. Gives RFC 3339.

    With `back` it lies in the past: spans and times of day count backwards.
    """

    name = "when"

    def __init__(self, *, back: bool = False) -> None:
        self._sign = -1 if back else 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The instant of the text. Fails with the forms that are understood."""
        now = datetime.now().astimezone()
        span = _SPAN.fullmatch(value.removeprefix("+"))
        if span is not None:
            return (now + self._sign * timedelta(seconds=float(span[1]) * _SECONDS[span[2]])).isoformat()
        try:
            if re.fullmatch(r"\d\d?:\d\d", value):
                hour, minute = map(int, value.split(":"))
                today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
                is_meant = (today > now) == (self._sign > 0)
                return (today if is_meant else today + self._sign * timedelta(days=1)).isoformat()
            return datetime.fromisoformat(value).astimezone().isoformat()
        except ValueError:
            self.fail(f"{value!r} is no instant; use 90m, 14:30, '2026-12-24 18:00' or RFC 3339", param, ctx)


class Span(click.ParamType[float]):
    """A span of time such as 90m or 7d, or `none`. Gives seconds, or -1 for none."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of the text. Fails with an example."""
        span = _SPAN.fullmatch(value)
        if value == "none":
            return NONE
        if span is None:
            self.fail(f"{value!r} is no span of time; use 90m, 12h or 7d, or none for no bound", param, ctx)
        return float(span[1]) * _SECONDS[span[2]]


class Bound(click.ParamType[int]):
    """A whole number, or `none`. Gives -1 for none."""

    name = "bound"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of the text. Fails with what is accepted."""
        if value == "none":
            return NONE
        if not (value.isascii() and value.isdigit() and int(value) >= self._least):
            self.fail(f"{value!r} is not accepted; use {self._least} or more, or none for no bound", param, ctx)
        return int(value)


NONE = -1
"""What Span and Bound give for `none`: None means that nothing was said."""


class Seeds(click.ParamType[tuple[int, ...]]):
    """Seeds with commas."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The seeds of the text. Fails with an example."""
        if not re.fullmatch(r"\d+(,\d+)*", value):
            self.fail(f"{value!r} are no seeds; use numbers with commas, such as 7,8,9", param, ctx)
        return tuple(map(int, value.split(",")))


def said(**bounds: float | None) -> dict[str, float | None]:
    """Only what was said, with null for `none`."""
    return {name: None if value == NONE else value for name, value in bounds.items() if value is not None}


def parse_params(pairs: Sequence[str], option: str = "--param") -> dict[str, Any]:
    """name=value pairs; a value that is JSON is taken as that, anything else as text."""
    params: dict[str, Any] = {}
    for name, text in _pairs(pairs, option, "steps=20"):
        try:
            params[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            params[name] = text
    return params


def parse_meta(pairs: Sequence[str]) -> dict[str, str]:
    """key=value pairs, as text."""
    return dict(_pairs(pairs, "--meta", "order=1138"))


def _pairs(pairs: Sequence[str], option: str, example: str) -> list[tuple[str, str]]:
    found = []
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not (name and separator):
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE, such as {example}", param_hint=option)
        found.append((name, text))
    return found
