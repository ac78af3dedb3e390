"""Other pipeline classes around the weights of a loaded one: nothing is copied, and it takes 1 to 2 ms."""

from __future__ import annotations

from typing import Any

from service.worker.models import ModelMissing
from service.worker.pipelines.loading import Loaded


def relative(name: str, loaded: Loaded, family: Any) -> Any:
    """The class of `family` (an AutoPipeline) that belongs to the pipeline of model `name`, around its components.

    A pipeline that is of the family already is given as it is. Raises ModelMissing where there is no such class.
    """
    if family not in loaded.relatives:
        loaded.relatives[family] = _made(name, loaded.pipe, family)
    return loaded.relatives[family]


def _made(name: str, pipe: Any, family: Any) -> Any:
    try:
        made = family.from_pipe(pipe)
    except ValueError as error:
        raise ModelMissing(
            f"model {name} cannot do this: diffusers has no class of {family.__name__} for its "
            f"{type(pipe).__name__}; take this task out of its catalogue entry"
        ) from error
    made.set_progress_bar_config(disable=True)
    return pipe if type(made) is type(pipe) else made
