"""Digests of weights: which bytes a picture was made with, and not only under which name they lay.

SHA-256 over the whole contents, because fine-tuned weights differ in nothing else. At 1.4 GB/s (one core with SHA
instructions, a busy machine, 2026-11) that is worth remembering: a small file in the user's cache folder holds the
digest for as long as place, size and time of change of the weights stay what they were.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from service.tasks.catalog import Model
from service.worker.spool import cache_folder
from service.worker.weights import WeightFile, look


def model_digest(model: Model) -> str:
    """SHA-256 over the names, sizes and contents of all files of weights of a model, wherever they lie."""
    return digest(look(model).files, cache_folder() / "digests")


def digest(files: Iterable[WeightFile], cache: Path) -> str:
    """The digest of these files; `cache` is the folder of digests that are known."""
    lines = sorted(f"{file.name} {file.path.stat().st_size} {_remembered(file.path, cache)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _remembered(path: Path, cache: Path) -> str:
    about = path.stat()
    key = f"{about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns}"
    known = cache / hashlib.sha256(key.encode()).hexdigest()
    if known.is_file():
        return known.read_text()
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(known, content)
    return content


def _remember(known: Path, content: str) -> None:
    with suppress(OSError):  # no room for a cache is no reason not to load
        known.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=known.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        os.replace(name, known)
