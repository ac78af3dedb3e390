"""Which tasks and models exist, and how a client's params become complete ones.

A model entry holds what differs between models: where its weights lie, what it can do, and the params used when
the client leaves them out. A job names a model by its id, never by a path. Whoever needs the catalogue is given it;
what people add to the embedded entries is read by models_file.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from service.field_errors import explain, shown
from service.tasks.image_to_image import ImageToImage
from service.tasks.inpaint import Inpaint
from service.tasks.pretend import Pretend
from service.tasks.registry import TASKS
from service.tasks.task import MAX_SEED, Params
from service.tasks.text_to_image import TextToImage

DEFAULT_TASK = TextToImage.TASK


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where weights lie: a folder or a file, or the repository `org/name` of the hub at the commit `revision`."""

    source: str
    revision: str | None = None


class Lora(Weights, frozen=True, kw_only=True):
    """A low-rank addition to a model, taken with `weight`. `file` picks one where a folder has several."""

    name: str
    weight: float = 1.0
    file: str | None = None


class Scheduler(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scheduler of diffusers instead of the model's own: its class, and what differs from its settings."""

    class_name: str = msgspec.field(name="class")
    config: dict[str, Any] = msgspec.field(default_factory=dict)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the catalogue. `tasks` are what it can do; a job that names only the model gets the first.

    `source` and `revision` are as in Weights; `package:demo_model` are the embedded ones, None needs none. What
    each field means to people stands in docs/models.md.
    """

    id: str
    tasks: tuple[str, ...]
    title: str
    source: str | None
    revision: str | None = None
    variant: str | None = None  # which of a folder's files, such as fp16
    config: Weights | None = None  # of a single file: the folder with what the file does not hold
    pipeline: str | None = None  # a class that diffusers exports; None for the one that the folder names
    scheduler: Scheduler | None = None
    vae: Weights | None = None
    loras: tuple[Lora, ...] = ()
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device_map: Literal["balanced"] | None = None  # over every GPU that the worker sees
    offload: Literal["none", "model", "sequential", "group"] = "none"
    compile: bool = False
    defaults: dict[str, Any] = msgspec.field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) px that the model can deliver; () for any
    enlarge: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1  # how much larger than drawn a picture is delivered
    memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0  # of the device, for weights and work; 0 if not known
    licence: str = ""

    @property
    def weights(self) -> Weights | None:
        """Where its own weights lie."""
        return Weights(source=self.source, revision=self.revision) if self.source is not None else None

    @property
    def parts(self) -> dict[str, Weights]:
        """Everything that it is loaded from, by what it is."""
        named = {"source": self.weights, "config": self.config, "vae": self.vae}
        loras: dict[str, Weights] = {f"loras.{lora.name}": lora for lora in self.loras}
        return {name: part for name, part in named.items() if part is not None} | loras


class Catalog(Mapping[str, Model]):
    """The models by id; never changed once made. The first model of a task is that task's default."""

    def __init__(self, models: Iterable[Model]) -> None:
        """Of two models with the same id the last counts, at the place of the first."""
        self._models = {model.id: model for model in models}

    def __getitem__(self, name: str) -> Model:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def of_task(self, task: str) -> tuple[Model, ...]:
        """The models that can do `task`."""
        return tuple(model for model in self._models.values() if task in model.tasks)

    def default(self, task: str) -> Model | None:
        """The model a job of `task` gets when it names none; None where no model can do it."""
        return next(iter(self.of_task(task)), None)

    def extended(self, models: Iterable[Model]) -> Catalog:
        """This catalogue with `models` before its own: they become the defaults, and replace by id."""
        added = {model.id: model for model in models}
        return Catalog([*added.values(), *(model for name, model in self.items() if name not in added)])


EMBEDDED = Catalog(
    [
        Model(
            id="demo",
            tasks=(TextToImage.TASK, ImageToImage.TASK, Inpaint.TASK),
            title="Embedded demo model: simple shapes in ten colours",
            source="package:demo_model",
            defaults={"steps": 20, "guidance": 2.0, "width": 512, "height": 512},
            sizes=((512, 512),),
            enlarge=8,
            licence="Apache-2.0",
        ),
        Model(
            id="pretend",
            tasks=(Pretend.TASK,),
            title="No model: reports steps, makes nothing",
            source=None,
        ),
    ]
)
"""What every service and every worker has, without a file and without a download."""


class InvalidParams(ValueError):
    """A client's params cannot be used: `field` is a JSON path below params, `message` says what was expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


def complete(task: str, model: Model, given: Mapping[str, Any], seed: int) -> Params:
    """The full params of a job of `task` on `model`: what was given, the model's defaults for the fields the task
    has, and `seed` if none was given.

    Raises InvalidParams naming the field, the value and the bound.
    """
    kind = TASKS[task]
    merged = {name: value for name, value in model.defaults.items() if name in kind.__struct_fields__}
    merged |= {name: value for name, value in given.items() if value is not None}
    if "seed" in kind.__struct_fields__:
        merged.setdefault("seed", seed % (MAX_SEED + 1))
    try:
        params = msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise InvalidParams(*explain(error, merged, kind.__struct_fields__)) from None
    _check_text(params)
    _check_size(model, params)
    return params


def _check_text(params: Params) -> None:
    for field in params.__struct_fields__:
        value = getattr(params, field)
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise InvalidParams(field, f"{shown(value)} holds a NUL or a lone surrogate; send plain Unicode text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_size(model: Model, params: Params) -> None:
    size = getattr(params, "width", None), getattr(params, "height", None)
    if model.sizes and None not in size and size not in model.sizes:
        known = ", ".join(f"{width} x {height}" for width, height in model.sizes)
        raise InvalidParams("width", f"{size[0]} x {size[1]} px is no size of model {model.id}; use {known}")
