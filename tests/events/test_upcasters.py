"""Old events are read through one-step functions; a stored sample of every released version still decodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.envelope import TYPES, decode, encode
from events.upcasters import upcast

SAMPLES = Path(__file__).parent / "samples"


def test_steps_run_one_version_at_a_time() -> None:
    steps = {
        ("thing", 1): lambda data: {**data, "second": 2},
        ("thing", 2): lambda data: {"third": data["second"] + 1},
    }
    assert upcast("thing", 1, 3, {"first": 1}, steps) == {"third": 3}
    assert upcast("thing", 3, 3, {"as": "is"}, steps) == {"as": "is"}


def test_a_missing_step_is_named() -> None:
    with pytest.raises(LookupError, match=r"thing has no upcaster from schema version 1 \(wanted 2\)"):
        upcast("thing", 1, 2, {}, {})


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_stored_sample_is_still_read(sample: Path) -> None:
    name, _, schema = sample.stem.rpartition(".")
    event = decode(name, int(schema), sample.read_bytes())
    assert event.type == name
    if int(schema) == event.SCHEMA:
        assert encode(event) == sample.read_bytes().strip()


def test_every_type_has_a_sample_of_its_version() -> None:
    kept = {path.stem for path in SAMPLES.glob("*.json")}
    assert {f"{name}.{kind.SCHEMA}" for name, kind in TYPES.items()} <= kept
