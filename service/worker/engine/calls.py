"""Calls of a network: what makes two of them one, how they are joined, and how the answer is taken apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from service.worker.engine.families import FAMILIES, Family

Key = tuple[Hashable, ...]


class Call:
    """One call of a network by one job.

    `rows` is how many samples it holds. Calls of one `key` can be joined; a call without a key runs alone.
    """

    def __init__(
        self,
        module: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seen: dict[str, tuple[Any, Hashable]],
        method: str = "forward",
    ) -> None:
        """`seen` remembers from call to call of one job what its unchanging arguments hold: reading it makes a
        device wait."""
        self.rows = 1
        self.key: Key | None = None
        self.is_step = method == "forward"
        self._method = module if method == "forward" else getattr(module, method)  # hooks see a call of the module
        self._args = args
        self._kwargs = kwargs
        self._arguments: dict[str, Any] = {}
        self._family = FAMILIES.get(f"{type(module).__name__}.{method}")
        if self._family is not None:
            bound = _signature(getattr(type(module), method)).bind(module, *args, **kwargs).arguments
            self._arguments = {
                name: value
                for name, value in bound.items()
                if name not in ("self", *self._family.unread) and not _says_nothing(value)
            }
            self.rows = self._arguments[self._family.sample].shape[0]
            self.key = _key(self._family, module, self._arguments, self.rows, seen)

    def alone(self) -> Any:
        """The network's answer to this call as it was made."""
        return self._method(*self._args, **self._kwargs)

    @staticmethod
    def together(calls: Sequence[Call]) -> list[Any]:
        """The answers to several calls of one key, by one call of their network."""
        first = calls[0]
        family = first._family
        assert family is not None, "a call with a key has a family"
        joined = {
            name: _join(family, name, [(call._arguments[name], call.rows) for call in calls])
            for name in first._arguments
        }
        (answer,) = first._method(**joined)
        return [(part,) for part in answer.split([call.rows for call in calls])]


@lru_cache(maxsize=32)
def _signature(forward: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(forward)


def _says_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and not value)


def _key(
    family: Family, module: Any, arguments: Mapping[str, Any], rows: int, seen: dict[str, tuple[Any, Hashable]]
) -> Key | None:
    """Equal for calls that may be joined; None when one of the arguments is not understood."""
    parts: list[Hashable] = [id(module)]
    for name, value in sorted(arguments.items()):
        if name == "return_dict" and value is False:
            continue
        part = _contents(name, value, seen) if name in family.same else _part(family, name, value, rows)
        if part is None:
            return None
        parts.append((name, part))
    return tuple(parts) if arguments.get("return_dict") is False else None


def _part(family: Family, name: str, value: Any, rows: int) -> Hashable | None:
    """What must be equal of one argument; None when it is not understood."""
    if name == "timestep":
        return "time" if torch.is_tensor(value) and (value.ndim == 0 or value.shape == (rows,)) else None
    if name == family.sample or name in family.rows:
        return _rows_part(value, rows)
    if name in family.listed:
        return repr(value[0]) if isinstance(value, list) and len(value) == rows and _all_equal(value) else None
    return None


def _contents(name: str, value: Any, seen: dict[str, tuple[Any, Hashable]]) -> Hashable | None:
    """All that a tensor holds, read again only when it is another one."""
    if not torch.is_tensor(value):
        return None
    if name not in seen or seen[name][0] is not value:
        held = value.detach().float().cpu().contiguous().numpy().tobytes()
        seen[name] = (value, (tuple(value.shape), str(value.dtype), held))
    return seen[name][1]


def _rows_part(value: Any, rows: int) -> Hashable | None:
    if isinstance(value, dict):
        parts = {name: _rows_part(each, rows) for name, each in value.items()}
        return None if None in parts.values() else tuple(sorted(parts.items()))
    if torch.is_tensor(value) and value.ndim > 0 and value.shape[0] == rows:
        return (tuple(value.shape[1:]), str(value.dtype), str(value.device))
    return None


def _all_equal(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _join(family: Family, name: str, parts: Sequence[tuple[Any, int]]) -> Any:
    """One argument of the joined call; `parts` has the argument and the rows of each call."""
    first = parts[0][0]
    if name == "timestep":
        return torch.cat([value.reshape(-1).expand(rows) for value, rows in _of_one_dtype(parts)])
    if name in family.listed:
        return [each for value, _ in parts for each in value]
    if isinstance(first, dict):
        return {key: torch.cat([value[key] for value, _ in parts]) for key in first}
    if name == family.sample or name in family.rows:
        return torch.cat([value for value, _ in parts])
    return first


def _of_one_dtype(parts: Sequence[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Schedulers count time in integers or in floats; both mean the same to a denoiser."""
    dtype = parts[0][0].dtype
    for value, _ in parts[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    return [(value.to(dtype), rows) for value, rows in parts]
