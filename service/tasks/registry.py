"""Every task there is: those of this package, and those that other packages add by an entry point (docs/tasks.md).

A package's fault is its own: its task is left out and the fault is named, here once in the log and in `safelight
doctor`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

import msgspec

from service.tasks.enhance import Enhance
from service.tasks.image_to_image import ImageToImage
from service.tasks.inpaint import Inpaint
from service.tasks.pretend import Pretend
from service.tasks.task import Params
from service.tasks.text_to_audio import TextToAudio
from service.tasks.text_to_image import TextToImage
from service.tasks.text_to_video import TextToVideo
from service.tasks.upscale import Upscale
from service.tasks.video_to_video import VideoToVideo

GROUP = "safelight.tasks"
BUILT_IN: tuple[type[Params], ...] = (
    *(TextToImage, ImageToImage, Inpaint, Upscale),
    *(TextToVideo, VideoToVideo, TextToAudio, Enhance, Pretend),
)

logger = logging.getLogger("safelight.tasks")


def collected(points: Iterable[EntryPoint]) -> tuple[dict[str, type[Params]], list[str]]:
    """The tasks by name, our own first, and what is wrong with those of `points` that are left out."""
    tasks = {kind.TASK: kind for kind in BUILT_IN}
    problems = []
    for point in points:
        whose = point.dist.name if point.dist is not None else "an unknown package"
        try:
            tasks[point.name] = _checked(point, tasks)
        except Exception as error:  # whatever a foreign package's import raises
            problems.append(f"the task {point.name} of {whose} is left out: {type(error).__name__}: {error}")
    return tasks, problems


def _checked(point: EntryPoint, tasks: Mapping[str, type[Params]]) -> type[Params]:
    """The class that an entry point names. Raises TypeError where it is no task, or what its import raises."""
    if point.name in tasks:
        raise TypeError(f"there is a task {point.name} already; give yours another name")
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Params)):
        raise TypeError(f"{point.value} is no subclass of service.tasks.task.Params; name the params of the task")
    for name in ("TASK", "RUNNER"):
        if not isinstance(getattr(kind, name, None), str):
            raise TypeError(f"{point.value} has no {name}; set it to a string")
    if point.name != kind.TASK:
        raise TypeError(f"{point.value} is the task {kind.TASK}; name the entry point so, or correct TASK")
    msgspec.json.schema(kind)  # raises for a field that cannot be described to clients
    return kind


TASKS, PROBLEMS = collected(entry_points(group=GROUP))
"""Every task by name; the first is the one a submission gets that names none. And what was left out, in words."""

for _problem in PROBLEMS:
    logger.warning("%s", _problem)
