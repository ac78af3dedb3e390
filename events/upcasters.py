"""Reading an old event: pure one-step functions from one schema version of a type to the next.

A changed event type raises its SCHEMA, adds a step here and a stored sample of the old shape to
tests/events/samples/. Nothing stored is ever rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: Mapping[tuple[str, int], Step] = {}
"""(type, version) -> the function that makes version + 1 of it. No type has a second version yet."""


def upcast(
    type_name: str,
    schema: int,
    wanted: int,
    data: dict[str, Any],
    steps: Mapping[tuple[str, int], Step] = STEPS,
) -> dict[str, Any]:
    """The data of `type_name` at version `schema`, brought step by step to version `wanted`.

    Raises LookupError when a step is missing, which a newer log read by an older program also meets.
    """
    for version in range(schema, wanted):
        data = _step(type_name, version, wanted, steps)(data)
    if schema > wanted:
        raise LookupError(
            f"event {type_name} has schema version {schema}, this program knows up to {wanted}; "
            "upgrade safelight to read this log"
        )
    return data


def _step(type_name: str, version: int, wanted: int, steps: Mapping[tuple[str, int], Step]) -> Step:
    step = steps.get((type_name, version))
    if step is None:
        raise LookupError(
            f"event {type_name} has no upcaster from schema version {version} (wanted {wanted}); "
            "add it to events/upcasters.py"
        )
    return step
