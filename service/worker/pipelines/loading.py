"""From a model's entry to a pipeline on the device.

Only safetensors are read, no code from folders is run, and nothing is fetched from anywhere: what the hub has given
is loaded from its folder in the hub's cache, as any other folder.
"""

from __future__ import annotations

import gc
import inspect
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError

from service.tasks.catalog import Model, Scheduler, Weights
from service.tasks.models_file import SINGLE_FILE
from service.worker import previews
from service.worker.digests import model_digest
from service.worker.engine.denoiser import DENOISERS
from service.worker.failures import is_out_of_memory
from service.worker.models import INSTALL, LIBRARIES, ModelMissing
from service.worker.weights import DIFFUSERS, components, located, lora_file

OF_COMPONENTS = ("diffusers", "transformers")


class Loaded:
    """A pipeline on its device. `digest` is that of every file of weights it was loaded from."""

    def __init__(
        self, pipe: Any, device: str, dtype: str, colours: previews.LatentMap | None, digest: str = ""
    ) -> None:
        self.pipe = pipe
        self.device = device
        self.dtype = dtype
        self.colours = colours
        self.digest = digest
        self.inputs = inputs_of(pipe)
        self.relatives: dict[Any, Any] = {}  # AutoPipeline class -> the class of its family around these weights
        self.calls_per_step: dict[bool, int] = {}  # with guidance or without -> denoiser calls, as last seen


def load(model: Model, device: str, threads: int) -> Loaded:
    """Load what the entry says onto `device`. Raises ModelMissing, or what torch raises for want of memory."""
    settle_libraries(threads)
    dtype = dtype_on(device, model)
    digest = model_digest(model)  # first: it brings the files into memory, from where they are then loaded
    folder = folder_of(model)
    with reading(model.id):
        pipe = _pipeline(model, device, dtype)
        if model.scheduler is not None:
            pipe.scheduler = _scheduler(model.id, model.scheduler, pipe.scheduler)
        _add_loras(model, pipe)
    _place(model, pipe, device)
    pipe.set_progress_bar_config(disable=True)
    return Loaded(pipe, device, dtype, previews.latent_map(folder), digest)


def free_memory() -> None:
    """Give back what a failed run left on the device. Call it when its exception is gone: that holds tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def settle_libraries(threads: int) -> None:
    """Quiet, and as reproducible as the kernels allow."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
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
    """The folder of a model that has weights; of a single file the one that says how it is built."""
    part = model.config or model.weights
    assert part is not None, f"model {model.id} has no weights to load"
    return located(part)


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
        how = INSTALL["worker"] if missing in LIBRARIES else "install it where the worker runs"
        raise ModelMissing(f"model {name} needs the library {missing}, which is missing; {how}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
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


def _pipeline(model: Model, device: str, dtype: str) -> Any:
    """The pipeline on the CPU, or spread over GPUs.

    The dtype is always given: without it transformers keeps an fp16 folder's half precision while diffusers widens
    it, and the first product of the two raises.
    """
    folder = folder_of(model)
    kind = _pipeline_class(model, folder)
    words: dict[str, Any] = {"torch_dtype": getattr(torch, dtype), "local_files_only": True}
    if model.vae is not None:
        words["vae"] = _vae(model.id, model.vae, model.variant, words)
    if model.source is not None and model.source.endswith(SINGLE_FILE):
        return _from_single_file(model, kind, folder, words)
    if model.device_map is not None and device.startswith("cuda"):
        words["device_map"] = model.device_map
    variant = _variant_in(folder, model.variant)
    return kind.from_pretrained(folder, use_safetensors=True, variant=variant, **words)


def _from_single_file(model: Model, kind: Any, folder: Path, words: dict[str, Any]) -> Any:
    """The pipeline of a file, with the text encoders of its folder where the file has none.

    diffusers up to 0.42 takes those from the folder only when they are named as one of its own networks.
    """
    while True:
        try:
            return kind.from_single_file(model.source, config=str(folder), **words)
        except SingleFileComponentError as error:
            lacking = (name for name in components(folder) if name not in words and f"\n{name} = " in str(error))
            name = next(lacking, None)
            if name is None or not (folder / name / f"model{SINGLE_FILE}").is_file():
                raise ModelMissing(
                    f"model {model.id}: neither its file nor its config folder has the weights of "
                    f"{name or 'a component'}; put model{SINGLE_FILE} into that folder"
                ) from error
            words[name] = getattr(transformers, components(folder)[name][1]).from_pretrained(
                folder / name, use_safetensors=True, local_files_only=True, dtype=words["torch_dtype"]
            )


def _pipeline_class(model: Model, folder: Path) -> Any:
    """The class that the entry or else the folder names, if it and all its components are of the two libraries."""
    name = model.pipeline or json.loads((folder / DIFFUSERS).read_bytes())["_class_name"]
    kind = _exported(model.id, "pipeline", name)
    if not issubclass(kind, diffusers.DiffusionPipeline):
        raise ModelMissing(f"model {model.id}: {name} is no pipeline; name one such as StableDiffusionXLPipeline")
    for component, (library, class_name) in components(folder).items():
        if library not in OF_COMPONENTS and not hasattr(diffusers.pipelines, library):
            raise ModelMissing(
                f"model {model.id}: its component {component} is {class_name} of {library}, which is not of "
                f"{' or '.join(OF_COMPONENTS)}; only classes of those are loaded"
            )
    return kind


def _exported(model: str, what: str, name: str) -> Any:
    found = getattr(diffusers, name, None)
    if not isinstance(found, type):
        raise ModelMissing(
            f"model {model}: {what} {name} is no class of diffusers {diffusers.__version__}; "
            "correct the models file, or install the version that has it"
        )
    return found


def _vae(model: str, part: Weights, variant: str | None, words: dict[str, Any]) -> Any:
    folder = located(part)
    kind = _exported(model, "vae", json.loads((folder / "config.json").read_bytes())["_class_name"])
    return kind.from_pretrained(folder, use_safetensors=True, variant=_variant_in(folder, variant), **words)


def _variant_in(folder: Path, variant: str | None) -> str | None:
    """The variant, if any file of the folder is of it: diffusers takes some others as they are, but not all."""
    return variant if variant is not None and any(folder.rglob(f"*.{variant}.*")) else None


def _scheduler(model: str, wanted: Scheduler, own: Any) -> Any:
    """A scheduler of the wanted class, with the settings of the model's own where nothing else is said."""
    kind = _exported(model, "scheduler", wanted.class_name)
    if not issubclass(kind, diffusers.SchedulerMixin):
        raise ModelMissing(f"model {model}: {wanted.class_name} is no scheduler; name one such as DDIMScheduler")
    known = inspect.signature(kind.__init__).parameters
    unknown = [name for name in wanted.config if name not in known]
    if unknown:
        raise ModelMissing(
            f"model {model}: {wanted.class_name} has no setting {unknown[0]}; "
            f"use {', '.join(name for name in known if name not in ('self', 'kwargs'))}"
        )
    return kind.from_config(own.config, **wanted.config)


def _add_loras(model: Model, pipe: Any) -> None:
    if not model.loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelMissing(f"model {model.id}: {type(pipe).__name__} takes no LoRAs; remove them from its entry")
    for lora in model.loras:
        file = lora_file(lora)
        try:
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=lora.name, local_files_only=True
            )
        except (IndexError, KeyError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ModelMissing(
                f"model {model.id}: LoRA {lora.name} does not fit {type(pipe).__name__} ({type(error).__name__}); "
                "use one that was made for this kind of model"
            ) from error
    pipe.set_adapters([lora.name for lora in model.loras], [lora.weight for lora in model.loras])


def _compile(denoiser: Any) -> None:
    """Have its blocks compiled when they are first called, or all of it where its class names no blocks."""
    if getattr(denoiser, "_repeated_blocks", None):
        denoiser.compile_repeated_blocks()
    else:
        denoiser.compile()


def _place(model: Model, pipe: Any, device: str) -> None:
    """Put the weights where the entry wants them; on the CPU there is nothing to take them off to."""
    if model.compile:
        for denoiser in filter(None, (getattr(pipe, name, None) for name in DENOISERS)):
            _compile(denoiser)
    if model.device_map is not None and device.startswith("cuda"):
        return
    if model.offload == "group":
        pipe.enable_group_offload(torch.device(device), offload_type="leaf_level", use_stream=device != "cpu")
    elif device == "cpu" or model.offload == "none":
        pipe.to(device)
    elif model.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)
