"""Packed latents, by the classes' own packing."""

from __future__ import annotations

from typing import Any

import pytest

ASKED = {"width": 64, "height": 96, "num_frames": 9}


def test_latents_that_lie_as_pictures_are_shown_as_they_are() -> None:
    import torch

    from service.worker.pipelines.latents import picture_in

    latents = torch.arange(2 * 4 * 3 * 6 * 5).reshape(2, 4, 3, 6, 5)
    assert torch.equal(picture_in(latents, None, {}), latents[0, :, 1])
    assert torch.equal(picture_in(latents[:, :, 0], None, {}), latents[0, :, 0])
    assert picture_in(latents[0, 0, 0], None, {}) is None


@pytest.mark.parametrize("changed", [{}, {"width": 160}, {"height": None}])
def test_flux_packs_two_by_two(changed: dict[str, Any]) -> None:
    import torch

    from service.worker.pipelines.latents import picture_in
    from tests.tiny.images import picture_pipeline

    pipe = picture_pipeline("flux")
    height, width = (2 * (ASKED[side] // (2 * pipe.vae_scale_factor)) for side in ("height", "width"))
    latents = torch.randn(1, 4, height, width)
    packed = pipe._pack_latents(latents, 1, 4, height, width)
    asked = {name: value for name, value in {**ASKED, **changed}.items() if value is not None}
    found = picture_in(packed, pipe, asked)
    assert found is None if changed else torch.equal(found, latents[0])


@pytest.mark.parametrize("changed", [{}, {"num_frames": 49}, {"num_frames": None}])
def test_ltx_packs_frames_too(changed: dict[str, Any]) -> None:
    import torch

    from service.worker.pipelines.latents import picture_in
    from tests.tiny.videos import video_pipeline

    pipe = video_pipeline("ltx")
    height, width = (ASKED[side] // pipe.vae_spatial_compression_ratio for side in ("height", "width"))
    frames = (ASKED["num_frames"] - 1) // pipe.vae_temporal_compression_ratio + 1
    latents = torch.randn(1, 8, frames, height, width)
    packed = pipe._pack_latents(latents, pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
    asked = {name: value for name, value in {**ASKED, **changed}.items() if value is not None}
    found = picture_in(packed, pipe, asked)
    assert found is None if changed else torch.equal(found, latents[0, :, frames // 2])


def test_a_class_that_packs_in_a_way_of_its_own_has_no_preview() -> None:
    import torch

    from service.worker.pipelines.latents import picture_in

    class Other:
        def _unpack_latents(self, latents: Any, sizes: Any) -> None: ...

    assert picture_in(torch.zeros(1, 24, 16), Other(), ASKED) is None
    assert picture_in(torch.zeros(1, 24, 16), object(), ASKED) is None
