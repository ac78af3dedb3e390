"""The file with which people add models to the catalogue: TOML, a table `[models.ID]` for each (docs/models.md).

Read strictly: what is not known is an error, and every mistake of the file is told at once. Nothing is looked up
but the file itself: service and workers read the same one, and the weights need to be with the workers only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from service.field_errors import explain, nearest, shown
from service.tasks.catalog import Model
from service.tasks.registry import TASKS

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(GiB|MiB|GB|MB)")
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "GB": 10**9, "MB": 10**6}
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
CLASS = re.compile(r"[A-Za-z]\w*", re.ASCII)
ADAPTER = re.compile(r"[\w-]+", re.ASCII)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
SINGLE_FILE = ".safetensors"
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
    return parsed(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of the file. Raises BadModelsFile."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadModelsFile([f"{path} cannot be read: {why}; give a TOML file with tables [models.ID]"]) from error


def usual_file(data: Path) -> Path | None:
    """The file of a data folder, where it has one."""
    path = data / "models.toml"
    return path if path.is_file() else None


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
    if field == "memory_bytes" and isinstance(value, str):
        if not MEMORY.fullmatch(value):
            yield field, f"{shown(value)} is not accepted: use a number of bytes, or a text such as '12 GiB'"
        return
    try:
        msgspec.convert(value, FIELDS[field])
    except msgspec.ValidationError as error:
        below, why = explain(error, value, _fields_below(FIELDS[field]))
        yield _joined(field, below), why if below else f"{shown(value)} is not accepted: {why}"


def _fields_below(kind: Any) -> list[str]:
    """The fields of the tables that a field of this kind holds."""
    structs = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return [name for struct in structs for name in struct.__struct_encode_fields__]


def _joined(field: str, below: str) -> str:
    return field + below if below.startswith("[") or not below else f"{field}.{below}"


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
    yield from _part_problems(table)
    yield from _loading_problems(table)


def _part_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with where the weights lie."""
    if table["source"] != EMBEDDED_WEIGHTS:
        yield from _weights_problems("", table)
    for field in ("config", "vae"):
        if field in table:
            yield from _weights_problems(f"{field}.", table[field])
            if table[field]["source"].endswith(SINGLE_FILE):
                yield f"{field}.source", f"{shown(table[field]['source'])} is not accepted: use a folder"
    names = []
    for index, lora in enumerate(table.get("loras", [])):
        yield from _weights_problems(f"loras[{index}].", lora)
        name = lora["name"]
        if not ADAPTER.fullmatch(name) or name in names:
            why = "it is taken" if name in names else "use letters, digits, dashes and underscores"
            yield f"loras[{index}].name", f"{shown(name)} is not accepted: {why}"
        names.append(name)


def _weights_problems(prefix: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    source, revision = part["source"], part.get("revision")
    what = f"{prefix}source"
    if not source:
        yield what, "'' is not accepted: use a folder, a .safetensors file, or org/name of the hub"
    elif source.endswith(PICKLES):
        yield what, f"{shown(source)} is not accepted: pickled weights are never read; convert it to safetensors"
    elif revision is None and HUB.fullmatch(source) and not source.endswith(SINGLE_FILE):
        yield (
            f"{prefix}revision",
            (f"is required for {source} of the hub: the 40 hex digits of a commit (for a folder write ./{source})"),
        )
    elif revision is not None and not HUB.fullmatch(source):
        yield what, f"{shown(source)} is not accepted with a revision: use org/name of the hub"
    elif revision is not None and not COMMIT.fullmatch(revision):
        yield f"{prefix}revision", f"{shown(revision)} is not accepted: use the 40 hex digits of a commit"


def _loading_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """What does not go together, and names that cannot be classes."""
    is_file = table["source"].endswith(SINGLE_FILE)
    if is_file and "config" not in table:
        yield (
            "config",
            "is required with a single file: a diffusers folder of its kind, with what the file does not hold",
        )
    if not is_file and "config" in table:
        yield "config", f"is only for a single file, and source is {shown(table['source'])}"
    if is_file and "variant" in table:
        yield "variant", "is only for a folder or the hub, and source is a single file"
    if "device_map" in table and table.get("offload", "none") != "none":
        yield "device_map", f"does not go with offload {shown(table['offload'])}; use one of them"
    named = {"pipeline": table.get("pipeline"), "scheduler.class": table.get("scheduler", {}).get("class")}
    for field, name in named.items():
        if name is not None and not CLASS.fullmatch(name):
            yield field, f"{shown(name)} is not accepted: use the name of a class that diffusers exports"


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
    whole = {
        "title": name,
        **table,
        **{field: _placed(table[field], folder) for field in ("config", "vae") if field in table},
        "id": name,
        "source": _source(table, folder),
        "loras": [_placed(lora, folder) for lora in table.get("loras", [])],
        "memory_bytes": _bytes(memory) if isinstance(memory, str) else memory,
    }
    return msgspec.convert(whole, Model)


def _placed(part: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {**part, "source": _source(part, folder)}


def _source(part: Mapping[str, Any], folder: Path) -> str:
    """The source, with the whole path if it is one."""
    source: str = part["source"]
    is_path = source != EMBEDDED_WEIGHTS and "revision" not in part
    return str(folder / Path(source).expanduser()) if is_path else source


def _bytes(text: str) -> int:
    found = MEMORY.fullmatch(text)
    assert found is not None, f"{text!r} was checked before"
    return round(float(found[1]) * UNITS[found[2]])
