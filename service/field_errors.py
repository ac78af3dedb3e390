"""What a validation error of msgspec means for the person who sent the value: the field, the value, the bound."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

SHOWN_CHARACTERS = 60

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def explain(error: msgspec.ValidationError, given: Any, known: Sequence[str]) -> tuple[str, str]:
    """The path of the field at fault ("" for the whole) and what is wrong with it, value included.

    `given` is what was validated, as plain objects; `known` are the fields there are at its top.
    """
    text, _, path = str(error).partition(" - at `$")
    field = path.removesuffix("`").removeprefix(".")
    if (unknown := _UNKNOWN.match(text)) is not None:
        return _below(field, shown(unknown[1])[1:-1]), f"there is no such field; {nearest(unknown[1], known)}"
    if (missing := _MISSING.match(text)) is not None:
        return _below(field, missing[1]), "is required and was not given"
    if "[...]" in field:
        field = _named(field, given)
    expected = text[:1].lower() + text[1:]
    return field, f"{shown(_value(field, given))} is not accepted: {expected}" if field else expected


def shown(value: object) -> str:
    """The value as an error shows it: quoted, without control characters, and not too long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def nearest(name: str, known: Sequence[str]) -> str:
    """What to use instead of an unknown name."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _named(field: str, given: Any) -> str:
    """The path with the key that msgspec left out: it does so for a number that no float can hold."""
    head = field.partition("[...]")[0]
    values = _value(head, given)
    if isinstance(values, dict):
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                return _below(head, name)
    return head


def _value(field: str, given: Any) -> Any:
    for name, index in _STEP.findall(field):
        try:
            given = given[int(index)] if index else given[name]
        except (KeyError, IndexError, TypeError):
            return None
    return given
