"""Which models of the catalogue can run here: their weights are on this machine and their libraries installed.

Looks at folders and package metadata only; nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from service.tasks.catalog import Model
from service.worker.demo_model import WEIGHTS

LIBRARIES = (
    *("torch", "diffusers", "transformers", "safetensors", "accelerate"),
    *("PIL", "numpy", "av", "soundfile", "ftfy"),
)
DESCRIPTIONS = ("model_index.json", "config.json")  # of a diffusers folder, of a transformers folder
INSTALL = "install it with: pip install 'safelight[worker]'"
REPORTED_VERSIONS = ("safelight", "torch", "diffusers", "transformers")


class ModelMissing(Exception):
    """A model cannot be loaded: its weights or a library are not there. Says what to do, without paths."""


def weights_folder(model: Model) -> Path | None:
    """The folder of a model's weights, whether it exists or not; None for a model that has none."""
    if model.source is None:
        return None
    if model.source == "package:demo_model":
        return WEIGHTS
    return Path(model.source)


def check(model: Model) -> None:
    """Raise ModelMissing when `model` cannot be loaded here."""
    folder = weights_folder(model)
    if folder is None:
        return
    for library in LIBRARIES:
        if find_spec(library) is None:
            raise ModelMissing(f"model {model.id} needs the library {library}, which is missing; {INSTALL}")
    if not any((folder / name).is_file() for name in DESCRIPTIONS):
        raise ModelMissing(
            f"the weights of model {model.id} are missing: its folder has no {' or '.join(DESCRIPTIONS)}; "
            "put a diffusers or transformers folder there or correct the catalogue"
        )


def available(models: Iterable[Model]) -> tuple[Model, ...]:
    """Those of the models that can be loaded here."""
    return tuple(model for model in models if not _why_not(model))


def is_real(model: Model) -> bool:
    """Whether the model has weights, and so needs torch."""
    return model.source is not None


def by_task(models: Iterable[Model]) -> dict[str, tuple[str, ...]]:
    """The ids of the models by each task that they can do."""
    grouped: dict[str, tuple[str, ...]] = {}
    for model in models:
        for task in model.tasks:
            grouped[task] = (*grouped.get(task, ()), model.id)
    return grouped


@cache
def versions() -> dict[str, str]:
    """The installed versions of what a picture depends on; a package that is missing is left out.

    Looked up once a process: reading the packages' metadata takes 1.5 ms, and every result names them.
    """
    found = {}
    for package in REPORTED_VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _why_not(model: Model) -> str:
    try:
        check(model)
    except ModelMissing as error:
        return str(error)
    return ""
