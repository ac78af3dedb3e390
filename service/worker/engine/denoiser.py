"""A job's own copy of a pipeline: the same weights, but its own scheduler, and networks that ask the engine."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from service.worker.engine.calls import Call
from service.worker.engine.engine import Member
from service.worker.engine.tape import Tape

DENOISERS = ("unet", "transformer", "transformer_2")


class Denoiser:
    """Stands in a pipeline for its denoiser: has all of its attributes, and is called through the engine."""

    def __init__(self, module: Any, member: Member, before: Callable[[], None], tape: Tape | None = None) -> None:
        """`before` is called before every call; what is on the `tape` is not computed again."""
        self._module = module
        self._member = member
        self._before = before
        self._tape = tape
        self._seen: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._before()
        has_one_tensor = kwargs.get("return_dict") is False  # in a tuple
        tape = self._tape if has_one_tensor else None
        if tape is not None and (known := tape.next(self._module.device)) is not None:
            return (known,)
        answer = self._member.ask(Call(self._module, args, kwargs, self._seen))
        if tape is not None:
            tape.keep(answer[0])
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Decoder:
    """Stands in a pipeline for its autoencoder: has all of its attributes, and decodes through the engine."""

    def __init__(self, module: Any, member: Member, before: Callable[[], None]) -> None:
        """`before` is called before every decoding."""
        self._module = module
        self._member = member
        self._before = before

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """The autoencoder's own; for several jobs that come to it together, one call."""
        self._before()
        return self._member.ask(Call(self._module, args, kwargs, {}, "decode"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def own_pipeline(
    pipe: Any,
    member: Member,
    generator: Any,
    before: Callable[[], None],
    before_decoding: Callable[[], None] = lambda: None,
    tape: Tape | None = None,
) -> Any:
    """A pipeline for one call by `member`, sharing every weight with `pipe`. The rest: see Denoiser and Decoder.

    Its scheduler draws from `generator` also where the pipeline's class forgets to hand that over (FLUX, Qwen-Image
    and Wan do): from torch's global one, noise would depend on the neighbours.
    """
    own = copy.copy(pipe)
    fields = vars(own)
    scheduler = copy.deepcopy(pipe.scheduler)  # that of the shared pipeline is never stepped
    _draw_from(scheduler, generator)
    fields["scheduler"] = scheduler
    for name in DENOISERS:
        if fields.get(name) is not None:
            fields[name] = Denoiser(fields[name], member, before, tape)
    if fields.get("vae") is not None:
        fields["vae"] = Decoder(fields["vae"], member, before_decoding)
    return own


def own_network(network: Any, member: Member, before: Callable[[], None]) -> Any:
    """A network for one use by `member`, sharing every weight with `network`, whose calls go through the engine."""
    asking = Denoiser(network, member, before)

    @wraps(network.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return asking(*args, **kwargs)

    own = copy.copy(network)
    own.forward = forward
    return own


def _draw_from(scheduler: Any, generator: Any) -> None:
    step = scheduler.step
    if "generator" not in inspect.signature(step).parameters:
        return

    @wraps(step)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        return step(*args, **{"generator": generator, **kwargs})

    scheduler.step = stepped
