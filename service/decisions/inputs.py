"""Whether a job can start from the files that its params name, and the size that it gets from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from service.pictures import Picture
from service.refusals import InvalidField
from service.tasks.catalog import Model
from service.tasks.image_to_image import ImageToImage
from service.tasks.inpaint import Inpaint
from service.tasks.task import Params, inputs_of
from service.tasks.upscale import Upscale

MIN_SIDE_PX, MAX_SIDE_PX = 64, 4096
USUAL_SIDE_PX = 1024  # of a model whose entry does not say its own size
UNIT_PX = 16  # what every family of models can draw a multiple of


def sized(
    kind: type[Params], model: Model, params: Mapping[str, Any], pictures: Mapping[str, Picture]
) -> Mapping[str, Any]:
    """`params` with the size that the result gets from its picture, where neither width nor height is given.

    It keeps the picture's shape as nearly as the model can draw it, and has at most the pixels of the model's own
    size: larger ones are slow and fall apart.
    """
    image = params.get("image")
    picture = pictures.get(image) if isinstance(image, str) else None
    if not issubclass(kind, ImageToImage) or picture is None or params.get("width") or params.get("height"):
        return params
    shape = picture.width / picture.height
    if model.sizes:
        width, height = min(model.sizes, key=lambda size: abs(math.log(size[0] / size[1] / shape)))
    else:
        most = model.defaults.get("width", USUAL_SIDE_PX) * model.defaults.get("height", USUAL_SIDE_PX)
        pixels, side = picture.width * picture.height, max(picture.width, picture.height)
        shrink = min(1.0, math.sqrt(most / pixels), MAX_SIDE_PX / side)
        width, height = (_side(px * shrink) for px in (picture.width, picture.height))
    return {**params, "width": width, "height": height}


def _side(px: float) -> int:
    return min(MAX_SIDE_PX, max(MIN_SIDE_PX, round(px / UNIT_PX) * UNIT_PX))


def check_inputs(params: Params, pictures: Mapping[str, Picture]) -> None:
    """Refuse a file that is not stored or of another kind, a mask of another size than its picture, and too large a
    result.

    `pictures` are the stored ones that the params name, by digest.
    """
    found: dict[str, Picture] = {}
    for field, digest in inputs_of(type(params), msgspec.structs.asdict(params)).items():
        if digest not in pictures:
            raise InvalidField(
                f"params.{field}", f"no {field} {digest} is stored; upload it first with POST /v1/artifacts"
            )
        found[field] = pictures[digest]
        _check_kind(field, digest, pictures[digest])
    if isinstance(params, Inpaint):
        _check_mask(found["image"], found["mask"])
    if isinstance(params, Upscale):
        _check_enlarged(found["image"], params.factor)


def _check_kind(field: str, digest: str, picture: Picture) -> None:
    """A param named video takes a video, any other a picture."""
    wanted = "video" if field == "video" else "image"
    if not picture.media_type.startswith(wanted):
        raise InvalidField(f"params.{field}", f"{digest} is {picture.media_type}; name a stored {field}")


def _check_mask(image: Picture, mask: Picture) -> None:
    if (mask.width, mask.height) != (image.width, image.height):
        raise InvalidField(
            "params.mask",
            f"it has {mask.width} x {mask.height} px and the image {image.width} x {image.height}; "
            "make them the same size",
        )


def _check_enlarged(image: Picture, factor: int) -> None:
    if max(image.width, image.height) * factor > MAX_SIDE_PX:
        raise InvalidField(
            "params.factor",
            f"{factor} times {image.width} x {image.height} px is more than {MAX_SIDE_PX} px on a side; "
            "use a smaller factor or picture",
        )
