"""Where the weights of a model lie on this machine, and whether its files are whole.

Looks at names, sizes and the headers of safetensors files (https://github.com/huggingface/safetensors#format);
nothing heavy is imported and nothing is fetched. What the hub has given lies in its own cache, whose layout is that
of huggingface_hub: `models--org--name/snapshots/<commit>`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from service.tasks.catalog import Lora, Model, Weights
from service.tasks.models_file import EMBEDDED_WEIGHTS, PICKLES, SINGLE_FILE
from service.worker.demo_model import WEIGHTS

LENGTH_BYTES = 8  # in front of a header: its length, little-endian
MOST_HEADER_BYTES = 100_000_000  # the format's own bound
STEMS = ("diffusion_pytorch_model", "model")  # as diffusers and transformers name what they save
DIFFUSERS = "model_index.json"
WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor")
"""Ends of the names of classes that are settings and vocabularies only."""


class WeightFile(msgspec.Struct, frozen=True):
    """A file of weights; `name` says what it is, without this machine's folders: `unet/model.safetensors`."""

    name: str
    path: Path


class Found(msgspec.Struct):
    """The files of weights of a model, and what is wrong with them or with what stands beside them, a line each."""

    files: list[WeightFile] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)


def located(part: Weights) -> Path:
    """The folder or file that `part` is on this machine, whether it exists or not."""
    if part.source == EMBEDDED_WEIGHTS:
        return WEIGHTS
    if part.revision is None:
        return Path(part.source)
    return hub_cache() / f"models--{part.source.replace('/', '--')}" / "snapshots" / part.revision


def hub_cache() -> Path:
    """The folder of the hub's cache, found as huggingface_hub finds it."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache}/huggingface")
    told = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(told)).expanduser()


def look(model: Model) -> Found:
    """What there is of a model, and what is wrong with it; every file's header is read."""
    found = Found()
    for role, part in model.parts.items():
        place = located(part)
        if not place.exists():
            found.problems.append(_missing(model, role, part))
        elif role == "config":
            _look_at_config(found, place)
        elif isinstance(part, Lora):
            _look_at_lora(found, role, part)
        elif place.suffix == SINGLE_FILE:
            _take(found, role, place)
        elif role == "vae":
            _look_into(found, role, place, model.variant)
        else:
            _look_at_pipeline(found, place, model.variant, {"vae"} if model.vae is not None else set())
    return found


def lora_file(lora: Lora) -> Path:
    """The file of a LoRA: itself, the one that is named, or the only one in its folder (`look` tells if it is)."""
    place = located(lora)
    if place.suffix == SINGLE_FILE:
        return place
    if lora.file is not None:
        return place / lora.file
    return next(place.glob(f"*{SINGLE_FILE}"))


def damage(path: Path) -> str | None:
    """What is wrong with a safetensors file, as far as its header and size tell; None when nothing is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > MOST_HEADER_BYTES:
                return f"is no safetensors file ({size} bytes)"
            header = json.loads(file.read(length)) if size >= LENGTH_BYTES + length else None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return f"is no safetensors file ({size} bytes): its header is not JSON"
    if header is None:
        return f"is cut off within its header, at {size} bytes"
    return _size_damage(header, size - LENGTH_BYTES - length)


def _size_damage(header: Any, size: int) -> str | None:
    try:
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        expected = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        if not isinstance(expected, int):
            raise TypeError
    except (AttributeError, KeyError, IndexError, TypeError):
        return "is no safetensors file: its header does not say where its tensors lie"
    return None if size == expected else f"has {size} of {expected} bytes of weights"


def _missing(model: Model, role: str, part: Weights) -> str:
    if part.revision is not None:
        return f"{role}: {part.source} is not in the hub's cache; fetch it with: safelight models pull {model.id}"
    return f"{role}: there is nothing at its path; put the weights there or correct the models file"


def _look_at_lora(found: Found, role: str, lora: Lora) -> None:
    place = located(lora)
    if lora.file is None and place.is_dir() and (many := len(list(place.glob(f"*{SINGLE_FILE}")))) != 1:
        has = "several files; name one as file" if many else f"no {SINGLE_FILE} file; put it there"
        found.problems.append(f"{role}: its folder has {has}")
        return
    _take(found, role, lora_file(lora))


def _look_at_pipeline(found: Found, folder: Path, variant: str | None, replaced: set[str]) -> None:
    """A diffusers folder with its components but those that are replaced, or a folder of transformers."""
    if not (folder / DIFFUSERS).is_file():
        if (folder / "config.json").is_file():
            _look_into(found, "", folder, variant)
        else:
            found.problems.append(f"source: its folder has no {DIFFUSERS}; put a diffusers folder there")
        return
    found.problems += _index_problems(folder)
    if found.problems:
        return
    for name, (_, class_name) in components(folder).items():
        if name in replaced:
            continue
        if not (folder / name).is_dir():
            found.problems.append(f"{name}: {DIFFUSERS} names it, and there is no such folder")
        elif not class_name.endswith(WITHOUT_WEIGHTS):
            _look_into(found, name, folder / name, variant)


def components(folder: Path) -> dict[str, tuple[str, str]]:
    """The library and class of every component that a diffusers folder names."""
    index = json.loads((folder / DIFFUSERS).read_bytes())
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)
    }


def _index_problems(folder: Path) -> Iterator[str]:
    """What is wrong with the index of a diffusers folder; code that it brings along is never run."""
    try:
        index = json.loads((folder / DIFFUSERS).read_bytes())
        named = components(folder)
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        yield f"{DIFFUSERS}: it cannot be read ({type(error).__name__}); put a whole diffusers folder there"
        return
    if not isinstance(index.get("_class_name"), str):
        yield f"{DIFFUSERS}: _class_name is not the name of a class of diffusers; code from folders is never run"
    for name, (library, _) in named.items():
        if (folder / name / f"{library}.py").exists():
            yield f"{name}: it is a class of its own in {library}.py; code from folders is never run"


def _look_at_config(found: Found, folder: Path) -> None:
    """The folder of a single file: it may have the text encoders that the file does not."""
    found.problems += _index_problems(folder)
    for name, (library, _) in components(folder).items() if not found.problems else ():
        place = folder / name
        if library == "transformers" and (_files_in(place, None) or _pickles_in(place)):
            _look_into(found, name, place, None)


def _look_into(found: Found, name: str, folder: Path, variant: str | None) -> None:
    """One network: its file, or the files that its index names."""
    files = _files_in(folder, variant)
    if not files:
        pickles = _pickles_in(folder)
        what = f"only pickled weights ({pickles[0]}), which are never read" if pickles else "no weights"
        found.problems.append(f"{name or 'source'}: there are {what}; put {STEMS[0]}{SINGLE_FILE} there")
    for path in files:
        _take(found, f"{name}/{path.name}".lstrip("/"), path)


def _pickles_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)


def _files_in(folder: Path, variant: str | None) -> list[Path]:
    """The files of a network in the variant, or in none where it has none of it; [] where there are no weights."""
    for middle in ([f".{variant}"] if variant else []) + [""]:
        for stem in STEMS:
            whole = folder / f"{stem}{middle}{SINGLE_FILE}"
            if whole.exists():
                return [whole]
            index = folder / f"{stem}{SINGLE_FILE}.index{middle}.json"
            if index.exists():
                return sorted(folder / shard for shard in _shards(index))
    return []


def _shards(index: Path) -> set[str]:
    try:
        return set(map(str, json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {index.name}  # which is then told to be no safetensors file


def _take(found: Found, name: str, path: Path) -> None:
    found.files.append(WeightFile(name, path))
    wrong = damage(path)
    if wrong is not None:
        found.problems.append(f"{name}: it {wrong}; put the whole file there")
