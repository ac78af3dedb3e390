"""From a model's folder to a pipeline on the device.

The folder's model_index.json names the pipeline class. Only safetensors are read, no code from folders is
run, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import gc
import inspect
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from service.tasks.catalog import Model
from service.worker import previews
from service.worker.models import INSTALL, LIBRARIES, ModelMissing, weights_folder


class Loaded:
    """A pipeline on its device."""

    def __init__(self, pipe: Any, device: str, dtype: str, colours: previews.LatentMap | None) -> None:
        self.pipe = pipe
        self.device = device
        self.dtype = dtype
        self.colours = colours
        self.inputs = inputs_of(pipe)
        self.relatives: dict[Any, Any] = {}  # AutoPipeline class -> the class of its family around these weights
        self.calls_per_step: dict[bool, int] = {}  # with guidance or without -> denoiser calls, as last seen


def load(model: Model, device: str, threads: int) -> Loaded:
    """Load the model's folder onto `device`. Raises ModelMissing, or what torch raises for want of memory."""
    settle_libraries(threads)
    folder, dtype = folder_of(model), dtype_on(device, model)
    with reading(model.id):
        # without a dtype transformers keeps an fp16 folder's half precision while diffusers widens it, and the
        # first product of the two raises
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=getattr(torch, dtype)
        )
    pipe.to(device).set_progress_bar_config(disable=True)
    return Loaded(pipe, device, dtype, previews.latent_map(folder))


def free_memory() -> None:
    """Give back what a failed run left on the device. Call it when its exception is gone: that holds tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def settle_libraries(threads: int) -> None:
    """Quiet, and as reproducible as the kernels allow."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    # torch_dtype is what every supported diffusers knows; from 0.42 on it warns that it will become dtype
    warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def folder_of(model: Model) -> Path:
    """The folder of a model that has weights."""
    folder = weights_folder(model)
    assert folder is not None, f"model {model.id} has no weights to load"
    return folder


def dtype_on(device: str, model: Model) -> str:
    """Half precision is for GPUs: some of torch's CPU kernels lack it and the others are slower with it."""
    return "float32" if device == "cpu" else model.dtype


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Around reading the weights of model `name`: what goes wrong becomes ModelMissing, without a path."""
    try:
        yield
    except ImportError as error:
        missing = _library(error)
        how = INSTALL if missing in LIBRARIES else "install it where the worker runs"
        raise ModelMissing(f"model {name} needs the library {missing}, which is missing; {how}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelMissing(
            f"the weights of model {name} cannot be loaded ({type(error).__name__}): its folder is incomplete or "
            "damaged; put a whole folder with safetensors there"
        ) from error


def _library(error: ImportError) -> str:
    """What could not be imported; diffusers says it in words only, as in "`cosmos_guardrail` is not installed"."""
    told = re.match(r"`(\w+)`", str(error))
    return error.name or (told[1] if told else "named in the detail")


def inputs_of(pipe: Any) -> frozenset[str]:
    """The names of the arguments that a pipeline's class takes."""
    return frozenset(inspect.signature(pipe.__call__).parameters)
