"""The file with which people add models to the catalogue: TOML, a table `[models.ID]` for each (docs/models.md).

Read strictly: what is not known is an error, and every mistake of the file is told at once. Nothing is looked up
but the file itself: service and workers read the same one, and the weights need to be with the workers only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from service.field_errors import explain, nearest, shown
from service.tasks.catalog import Model
from service.tasks.registry import TASKS

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(GiB|MiB|GB|MB)")
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "GB": 10**9, "MB": 10**6}
EMBEDDED_WEIGHTS = "package:demo_model"
FIELDS = {name: kind for name, kind in get_type_hints(Model, include_extras=True).items() if name != "id"}
REQUIRED = ("source", "tasks")

Problem = tuple[str, str]
"""The field at fault, "" for the whole entry, and what is wrong with it."""


class BadModelsFile(ValueError):
    """The file cannot be used. `problems` has one line for each mistake, naming file, field, value, expectation."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_models(path: Path) -> list[Model]:
    """The models of the file, in its order. Raises BadModelsFile."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadModelsFile([f"{path} cannot be read: {why}; give a TOML file with tables [models.ID]"]) from error
    return parsed(text, path)


def parsed(text: str, path: Path) -> list[Model]:
    """The models of a file's text; relative sources count from the folder of `path`. Raises BadModelsFile."""
    try:
        tables = _tables(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadModelsFile([f"{path}: it is not TOML: {error}"]) from None
    except ValueError as error:
        raise BadModelsFile([f"{path}: {error}"]) from None
    models, problems = [], []
    for name, table in tables.items():
        found = list(_problems(name, table))
        problems += [f"{path}: {'.'.join(filter(None, ('models', name, field)))}: {why}" for field, why in found]
        if not found:
            models.append(_model(name, table, path.absolute().parent))
    if problems:
        raise BadModelsFile(problems)
    return models


def _tables(document: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in document if name != "models"]
    if unknown:
        raise ValueError(f"{unknown[0]}: there is no such table; use [models.ID]")
    tables = document.get("models", {})
    if not isinstance(tables, dict):
        raise ValueError(f"models: {shown(tables)} is not accepted: use a table [models.ID] for each model")
    return tables


def _problems(name: str, table: Any) -> Iterator[Problem]:
    """What is wrong with an entry."""
    if not ID.fullmatch(name):
        yield "", "the id is not accepted: use 1 to 64 letters, digits, dots, dashes and underscores"
    if not isinstance(table, dict):
        yield "", f"{shown(table)} is not accepted: use a table [models.{name}]"
        return
    wrong = [problem for field in table for problem in _field_problems(field, table[field])]
    wrong += [(field, "is required and was not given") for field in REQUIRED if field not in table]
    yield from wrong or _sense_problems(table)


def _field_problems(field: str, value: Any) -> Iterator[Problem]:
    """What is wrong with one field by itself."""
    if field not in FIELDS:
        yield field, f"there is no such field; {nearest(field, list(FIELDS))}"
        return
    if field == "source" and not (isinstance(value, str) and value):
        yield field, f"{shown(value)} is not accepted: use the folder of the weights"
        return
    if field == "memory_bytes" and isinstance(value, str):
        if not MEMORY.fullmatch(value):
            yield field, f"{shown(value)} is not accepted: use a number of bytes, or a text such as '12 GiB'"
        return
    try:
        msgspec.convert(value, FIELDS[field])
    except msgspec.ValidationError as error:
        below, why = explain(error, value, ())
        yield f"{field}.{below}".rstrip("."), why if below else f"{shown(value)} is not accepted: {why}"


def _sense_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with fields that are each of the right kind."""
    tasks = table["tasks"]
    if not tasks:
        yield "tasks", f"[] is not accepted: name one or more of {', '.join(TASKS)}"
    for task in tasks:
        if task not in TASKS:
            yield "tasks", f"there is no task {shown(task)}; {nearest(task, list(TASKS))}"
    kinds = [TASKS[task] for task in tasks if task in TASKS]
    for name, value in table.get("defaults", {}).items():
        yield from _default_problems(name, value, kinds)
    yield from _size_problems(table)


def _default_problems(name: str, value: Any, kinds: list[Any]) -> Iterator[Problem]:
    """A default must be a field of one of the tasks at least, and good for each that has it."""
    having = [kind for kind in kinds if name in kind.__struct_fields__]
    if kinds and not having:
        known = sorted({field for kind in kinds for field in kind.__struct_fields__})
        yield f"defaults.{name}", f"none of the tasks has this parameter; {nearest(name, known)}"
    for kind in having:
        try:
            msgspec.convert(value, get_type_hints(kind, include_extras=True)[name])
        except msgspec.ValidationError as error:
            why = explain(error, value, ())[1]
            yield f"defaults.{name}", f"{shown(value)} is not accepted by {kind.TASK}: {why}"
            return


def _size_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    sizes, defaults = table.get("sizes", []), table.get("defaults", {})
    size = [defaults.get("width"), defaults.get("height")]
    if sizes and None not in size and size not in sizes:
        yield "defaults.width", f"{size[0]} x {size[1]} px is not in sizes; use one of {sizes}"


def _model(name: str, table: Mapping[str, Any], folder: Path) -> Model:
    memory = table.get("memory_bytes", 0)
    return msgspec.convert(
        {
            "title": name,
            **table,
            "id": name,
            "source": _source(table["source"], folder),
            "memory_bytes": _bytes(memory) if isinstance(memory, str) else memory,
        },
        Model,
    )


def _source(source: str, folder: Path) -> str:
    return source if source == EMBEDDED_WEIGHTS else str(folder / Path(source).expanduser())


def _bytes(text: str) -> int:
    found = MEMORY.fullmatch(text)
    assert found is not None, f"{text!r} was checked before"
    return round(float(found[1]) * UNITS[found[2]])
