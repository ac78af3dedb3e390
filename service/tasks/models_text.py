"""Adding an entry to the file of models: its comments and its order stay, because text is only put behind it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.tasks.catalog import Model
from service.tasks.models_file import BadModelsFile, parsed, read_text

BARE = re.compile(r"[\w-]+", re.ASCII)


def with_entry(path: Path, name: str, fields: Mapping[str, Any]) -> tuple[str, Model]:
    """The text of the file with an entry more, and that entry as it is read. Raises BadModelsFile."""
    text = read_text(path) if path.exists() else ""
    if any(model.id == name for model in parsed(text, path)):
        raise BadModelsFile([f"{path}: models.{name} is there already; edit it there, or use another id"])
    longer = f"{text.rstrip()}\n\n{entry(name, fields)}".lstrip()
    return longer, next(model for model in parsed(longer, path) if model.id == name)


def entry(name: str, fields: Mapping[str, Any]) -> str:
    """An entry as TOML."""
    lines = [f"{_key(field)} = {_value(value)}" for field, value in fields.items()]
    return "\n".join([f"[models.{_key(name)}]", *lines, ""])


def write(path: Path, text: str) -> None:
    """Replace the file by `text` in one step; whoever reads it sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if path.exists():
        shutil.copymode(path, name)
    os.replace(name, path)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return repr(value)
