"""Entries as TOML, and a file of models that grows without losing anything."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tasks.models_file import BadModelsFile
from service.tasks.models_text import entry, with_entry, write

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(name=TEXT, fields=st.dictionaries(TEXT, VALUES, max_size=4))
def test_an_entry_is_read_as_it_was_meant(name: str, fields: dict[str, Any]) -> None:
    assert tomllib.loads(entry(name, fields)) == {"models": {name: fields}}


@pytest.mark.parametrize("before", ["", "# a comment\n", "[models.a]\nsource = './a'\ntasks = ['pretend']"])
def test_what_is_there_stays(tmp_path: Path, before: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(before)
    text, model = with_entry(path, "b", {"source": "./b", "tasks": ["pretend"]})
    assert text.startswith(before)
    assert (model.id, model.source) == ("b", str(tmp_path / "b"))


def test_a_file_with_mistakes_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text("[models.a]\nsource = 3\n")
    with pytest.raises(BadModelsFile, match=r"models\.a\.source: 3 is not accepted"):
        with_entry(path, "b", {"source": "./b", "tasks": ["pretend"]})


def test_a_file_is_replaced_at_once_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "models.toml"
    write(path, "one")
    path.chmod(0o640)
    write(path, "two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o640)
    assert list(path.parent.iterdir()) == [path]
