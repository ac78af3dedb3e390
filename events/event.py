"""The base of every event type: an immutable fact with a tag, a schema version and known fields only."""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec


def tag_of(class_name: str) -> str:
    """The name an event type has in the log: `JobSubmitted` is `job-submitted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", class_name).lower()


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag=tag_of,
    tag_field="type",
):
    """A fact in the past tense. Subclasses say who causes it, what it implies and since which version."""

    SCHEMA: ClassVar[int] = 1

    @property
    def type(self) -> str:
        """The tag under which the log keeps this event."""
        return str(self.__struct_config__.tag)
