from __future__ import annotations

import errno

import pytest

from service.tasks.text_to_image import TextToImage
from service.worker.failures import MAX_DETAIL, BadOutput, describe
from service.worker.models import ModelMissing

PARAMS = TextToImage(
    prompt="my secret wish", negative_prompt="it's ugly", seed=1, steps=1, guidance=1, width=64, height=64
)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (RuntimeError("MPS backend out of memory"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (ModelMissing("model m needs the library peft, which is missing"), "model-missing"),
        (RuntimeError("CUDA error: device-side assert triggered"), "crash"),
        (BadOutput("the model made nothing but zeros"), "bad-output"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (ValueError("anything else"), "internal"),
        (OSError("out of memory cards"), "internal"),
    ],
)
def test_an_error_has_its_kind(error: Exception, kind: str) -> None:
    assert describe(raised(error), "denoising", PARAMS).kind == kind


def test_only_a_broken_device_ends_the_process() -> None:
    assert describe(RuntimeError("CUDA error: an illegal memory access"), "", PARAMS).is_poisonous
    assert not describe(OutOfMemoryError("CUDA out of memory"), "", PARAMS).is_poisonous


def test_neither_prompt_nor_path_leaves_the_machine() -> None:
    error = ValueError('my secret wish: "it\'s ugly" in /home/ann/models/x/unet.safetensors and C:\\ann\\y.bin')
    failure = describe(raised(error), "preparing", PARAMS)
    assert failure.detail is not None
    for secret in ("secret", "ugly", "ann", "/home"):
        assert secret not in failure.message + failure.detail, secret
    assert "unet.safetensors" in failure.detail


def test_the_message_names_error_and_phase() -> None:
    failure = describe(raised(KeyError("x")), "decoding", PARAMS)
    assert failure.message == "the pipeline raised KeyError in phase decoding; see the detail"


def test_the_detail_is_bounded_and_keeps_the_end() -> None:
    detail = describe(raised(ValueError("x" * 9000 + "the end")), "denoising", PARAMS).detail
    assert detail is not None
    assert len(detail) == MAX_DETAIL
    assert detail.endswith("the end")


def test_the_detail_names_source_files_below_their_package() -> None:
    try:
        import msgspec

        msgspec.json.decode(b"{")
        raise AssertionError
    except msgspec.DecodeError as error:
        detail = describe(error, "preparing", PARAMS).detail
    assert detail is not None
    assert detail.splitlines()[0].startswith("test_failures.py:")
