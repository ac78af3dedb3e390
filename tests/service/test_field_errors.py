"""A refused value is named with its field, itself and what was expected, whatever msgspec leaves out."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.field_errors import SHOWN_CHARACTERS, explain, shown


class Body(msgspec.Struct, forbid_unknown_fields=True):
    params: dict[str, Any]
    steps: Annotated[int, msgspec.Meta(ge=1, le=150)] = 20
    tags: tuple[str, ...] = ()


def explained(raw: str) -> tuple[str, str]:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(raw, type=Body)
    return explain(caught.value, json.loads(raw), Body.__struct_fields__)


@pytest.mark.parametrize(
    ("raw", "field", "message"),
    [
        ('{"params": {}, "steps": 151}', "steps", "151 is not accepted: expected `int` <= 150"),
        ('{"params": {}, "steps": "20"}', "steps", "'20' is not accepted: expected `int`, got `str`"),
        ('{"params": {}, "tags": ["a", 2]}', "tags[1]", "2 is not accepted: expected `str`, got `int`"),
        ('{"params": {}, "stepps": 2}', "stepps", "there is no such field; did you mean steps?"),
        ('{"params": {}, "zzz": 2}', "zzz", "there is no such field; use params, steps, tags"),
        ("{}", "params", "is required and was not given"),
        ("[]", "", "expected `object`, got `array`"),
        ('{"params": {"a": 1, "b": 1e400}}', "params.b", "inf is not accepted: number out of range"),
    ],
)
def test_field_value_and_bound_are_named(raw: str, field: str, message: str) -> None:
    assert explained(raw) == (field, message)


@given(st.text() | st.integers() | st.lists(st.text()))
def test_what_is_shown_fits_a_line(value: object) -> None:
    assert len(shown(value)) <= SHOWN_CHARACTERS
    assert "\n" not in shown(value)


@given(st.text(min_size=1).filter(lambda name: name not in Body.__struct_fields__))
def test_any_unknown_name_is_refused_in_one_line(name: str) -> None:
    field, message = explained(json.dumps({"params": {}, name: 1}))
    assert message.startswith("there is no such field")
    assert "\n" not in field
