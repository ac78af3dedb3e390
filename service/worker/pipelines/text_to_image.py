"""The task text-to-image: any diffusers folder whose pipeline makes a picture from a prompt.

The folder's model_index.json names the pipeline class. Only safetensors are read, no code from folders is
run, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import gc
import inspect
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from service.tasks.catalog import Model
from service.tasks.text_to_image import TextToImage
from service.worker import encoding, previews
from service.worker.frames import SpooledFile
from service.worker.models import INSTALL, ModelMissing, weights_folder
from service.worker.pipelines.watch import Watch, watching
from service.worker.run import Made, Run

MEDIA_TYPE = "image/png"


class Loaded:
    """A pipeline on its device."""

    def __init__(self, pipe: Any, device: str, dtype: str, colours: previews.LatentMap | None) -> None:
        self.pipe = pipe
        self.device = device
        self.dtype = dtype
        self.colours = colours
        self.inputs = frozenset(inspect.signature(pipe.__call__).parameters)
        self.calls_per_step: dict[bool, int] = {}  # with guidance or without -> denoiser calls, as last seen


def load(model: Model, device: str, threads: int) -> Loaded:
    """Load the model's folder onto `device`. Raises ModelMissing, or what torch raises for want of memory."""
    folder = weights_folder(model)
    assert folder is not None, f"model {model.id} has no weights to load"
    _settle_libraries(threads)
    # half precision is for GPUs; some of torch's CPU kernels lack it and the others are slower with it
    dtype = "float32" if device == "cpu" else model.dtype
    pipe = _from_folder(model.id, folder, getattr(torch, dtype)).to(device)
    pipe.set_progress_bar_config(disable=True)
    return Loaded(pipe, device, dtype, previews.latent_map(folder))


def _settle_libraries(threads: int) -> None:
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


def _from_folder(name: str, folder: Path, dtype: Any) -> Any:
    """The pipeline. The dtype is always given: without it transformers keeps an fp16 folder's half precision while
    diffusers widens it, and the first product of the two raises.
    """
    try:
        return diffusers.DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype
        )
    except ImportError as error:
        missing = error.name or "named in the detail"
        raise ModelMissing(f"model {name} needs the library {missing}, which is missing; {INSTALL}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelMissing(
            f"the weights of model {name} cannot be loaded ({type(error).__name__}): its folder is incomplete or "
            "damaged; put a whole diffusers folder with safetensors there"
        ) from error


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw the picture. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToImage), f"task {TextToImage.TASK} got {type(params).__name__}"
    run.enter("preparing")
    has_guidance = params.guidance > 1
    watch = Watch(run, params.steps, loaded.calls_per_step.get(has_guidance, 1), partial(_show, run, loaded))
    # drawn on the CPU, so that a seed gives the same noise on every device
    generator = torch.Generator("cpu").manual_seed(params.seed)
    arguments = _arguments(run, params, loaded.inputs, watch, generator)
    try:
        with watching(loaded.pipe, watch, generator) as pipe:
            pixels = pipe(**arguments).images[0]  # (height, width, 3) float32, 0..1
    finally:
        loaded.pipe.maybe_free_model_hooks()
    loaded.calls_per_step[has_guidance] = max(1, round(watch.calls / params.steps))
    height, width = pixels.shape[:2]
    facts = {
        "seed": params.seed,
        "scheduler": _scheduler_facts(loaded.pipe.scheduler),
        "dtype": loaded.dtype,
        "native_width": width,
        "native_height": height,
    }
    sampler = type(loaded.pipe.scheduler).__name__.removesuffix("Scheduler")
    return Made(facts, partial(_export, run, params, pixels, sampler))


def free_memory() -> None:
    """Give back what a failed run left on the device. Call it when its exception is gone: that holds tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _arguments(
    run: Run, params: TextToImage, inputs: frozenset[str], watch: Watch, generator: torch.Generator
) -> dict[str, Any]:
    """The pipeline's arguments, as far as its class knows them."""
    enlarge = run.model.enlarge
    wanted = {
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt or None,
        "num_inference_steps": params.steps,
        "guidance_scale": params.guidance,
        "width": params.width // enlarge,
        "height": params.height // enlarge,
        "generator": generator,
        "output_type": "np",
        "callback_on_step_end": watch.on_step_end,
    }
    return {name: value for name, value in wanted.items() if name in inputs}


def _show(run: Run, loaded: Loaded, latents: Any) -> None:
    """Send a preview, when the latents lie as a picture does: (batch, channels, height, width)."""
    if latents.ndim == 4:
        first = latents[0].detach().to("cpu", torch.float32).numpy()
        run.show(*previews.jpeg(previews.picture(first, loaded.colours)))


def _scheduler_facts(scheduler: Any) -> dict[str, Any]:
    """The scheduler's class and every plain setting of it."""
    settings = {
        name: value
        for name, value in scheduler.config.items()
        if isinstance(value, bool | int | float | str) and not name.startswith("_")
    }
    return {"class": type(scheduler).__name__, **settings}


def _export(run: Run, params: TextToImage, pixels: NDArray[np.float32], sampler: str) -> tuple[SpooledFile, ...]:
    """Write the picture in the size that was asked for. Needs no device."""
    picture = (pixels * 255).round().astype(np.uint8)  # (height, width, 3), as diffusers rounds
    if picture.shape[:2] != (params.height, params.width):
        enlarged = Image.fromarray(picture).resize((params.width, params.height), Image.Resampling.LANCZOS)
        picture = np.asarray(enlarged)
    texts = encoding.picture_texts(run.job, run.attempt, run.model.id, params, sampler)
    data = encoding.png(picture, texts)
    return (encoding.spool(run.folder, data, MEDIA_TYPE, params.width, params.height),)
