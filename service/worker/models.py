"""Which models of the catalogue can run here: their weights are on this machine and their libraries installed.

Looks at files and package metadata only; nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from service.tasks.catalog import Model
from service.worker.weights import look

LIBRARIES = (
    *("torch", "diffusers", "transformers", "safetensors", "accelerate"),
    *("PIL", "numpy", "av", "soundfile", "ftfy"),
)
LORA_LIBRARIES = ("peft",)
INSTALL = {extra: f"install it with: pip install 'safelight[{extra}]'" for extra in ("worker", "lora")}
REPORTED_VERSIONS = ("safelight", "torch", "diffusers", "transformers")


class ModelMissing(Exception):
    """A model cannot be loaded: its weights or a library are not there. Says what to do, without paths."""


def check(model: Model) -> None:
    """Raise ModelMissing when `model` cannot be loaded here."""
    if model.source is None:
        return
    problems = [*missing_libraries(model), *look(model).problems]
    if problems:
        more = f" ({len(problems) - 1} more: safelight models check {model.id})" if len(problems) > 1 else ""
        raise ModelMissing(f"model {model.id} cannot be loaded: {problems[0]}{more}")


def missing_libraries(model: Model) -> list[str]:
    """What has to be installed before `model` can be loaded, a line each."""
    needed = {
        **dict.fromkeys(LIBRARIES, "worker"),
        **(dict.fromkeys(LORA_LIBRARIES, "lora") if model.loras else {}),
    }
    return [
        f"it needs the library {library}, which is missing; {INSTALL[extra]}"
        for library, extra in needed.items()
        if find_spec(library) is None
    ]


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
