"""The demo model's autoencoder: an AutoencoderTiny whose decoder starts out knowing how to mix two colours.

No normalisation layers: group norm throws away the absolute colour of flat pictures.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import nn

from service.worker.demo_model.latents import (
    BORDER,
    BORDER_MIDDLE,
    BORDER_SCALE,
    CHANNELS,
    COLOUR_SCALE,
    INK,
    PAPER,
    REACH_PX,
    SCALING,
)
from service.worker.demo_model.shapes import EDGE_PX

ENCODER_BLOCKS = (0, 1, 4)
DECODER_BLOCKS = (4, 1, 1)
ENCODER_WIDTH = 24
DECODER_WIDTH = 20

# Channels that cross the whole decoder unchanged at first; the rest are free from the start.
_OUT, _INK, _PAPER, _BORDER = slice(0, 3), slice(3, 6), slice(6, 9), 9
_KEPT = 10


def build_autoencoder() -> AutoencoderTiny:
    """An untrained autoencoder, 4x down and up, whose decoder already draws round-cornered shapes.

    Mixing two colours by a mask is a product, which convolutions learn slowly: a decoder that started as a
    blurry thumbnail was still at 24 dB after three minutes. So the last block starts as that product: 23 dB,
    and 97 % of shapes right, before any training, which then adds the corners.
    """
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(ENCODER_WIDTH,) * 3,
        decoder_block_out_channels=(DECODER_WIDTH,) * 3,
        num_encoder_blocks=ENCODER_BLOCKS,
        num_decoder_blocks=DECODER_BLOCKS,
        latent_channels=CHANNELS,
        scaling_factor=SCALING,
    )
    _start_as_mixer(autoencoder.decoder.layers)
    return autoencoder


def _start_as_mixer(layers: nn.Sequential) -> None:
    """Sets the kept channels: colours copied, the border interpolated, and mixed in the last block."""
    first, *rising, last = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    *blocks, mixer = [layer.conv for layer in layers if hasattr(layer, "conv")]
    with torch.no_grad():
        _read_latents(first)
        for convolution in rising:
            _interpolate(convolution)
        for block in blocks:
            _clear(block[4], _KEPT)
        _mix(mixer)
        last.weight *= 0.1
        _clear(last, 3)
        _copy(last, _OUT, _OUT)


def _interpolate(convolution: nn.Conv2d) -> None:
    """After the nearest upsampling, a tent makes the border's linear; colours are the same everywhere."""
    _clear(convolution, _KEPT)
    _copy(convolution, slice(3, _KEPT), slice(3, _KEPT))
    tent = torch.tensor([1.0, 2.0, 1.0]) / 4
    convolution.weight[_BORDER, _BORDER] = torch.outer(tent, tent)


def _read_latents(first: nn.Conv2d) -> None:
    """Colours back to 0..1 and the squashed distance to 0..2, all positive for the ReLUs to come."""
    _clear(first, _KEPT)
    _copy(first, _INK, INK, 1 / COLOUR_SCALE)
    _copy(first, _PAPER, PAPER, 1 / COLOUR_SCALE)
    _copy(first, slice(_BORDER, _BORDER + 1), BORDER, 1 / BORDER_SCALE)
    first.bias[3:9] = 0.5
    first.bias[_BORDER] = BORDER_MIDDLE + 1


def _mix(mixer: nn.Sequential) -> None:
    """relu(ink - out) + relu(paper - (1 - out)), where out = clamp(distance / edge + 0.5, 0, 1)."""
    below, gate, join = mixer[0], mixer[2], mixer[4]
    _clear(below, 8)  # 0 and 1 make the clamp, 2..7 carry ink and paper
    below.weight[:2, _BORDER, 1, 1] = REACH_PX / EDGE_PX
    below.bias[0] = 0.5 - REACH_PX / EDGE_PX
    below.bias[1] = -0.5 - REACH_PX / EDGE_PX
    _copy(below, slice(2, 8), slice(3, 9))
    _clear(gate, 6)
    _copy(gate, slice(0, 6), slice(2, 8))
    outside = torch.tensor([1.0, -1.0])
    gate.weight[0:3, :2, 1, 1] = -outside
    gate.weight[3:6, :2, 1, 1] = outside
    gate.bias[3:6] = -1
    _clear(join, _KEPT)
    _copy(join, _OUT, slice(0, 3))
    _copy(join, _OUT, slice(3, 6))


def _clear(convolution: nn.Conv2d, channels: int) -> None:
    convolution.weight[:channels] = 0
    if convolution.bias is not None:
        convolution.bias[:channels] = 0


def _copy(convolution: nn.Conv2d, to: slice, source: slice, gain: float = 1.0) -> None:
    convolution.weight[range(to.start, to.stop), range(source.start, source.stop), 1, 1] = gain
