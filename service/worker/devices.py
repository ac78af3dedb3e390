"""Which device to compute on, found without importing torch: the CUDA driver is asked directly.

torch would need seconds to say the same. It has the last word when a model is loaded.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable

import msgspec

from service.protocol import DeviceInfo

_CUDA_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256


class NoSuchDevice(Exception):
    """The device that was asked for is not on this machine; the message says what is."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device: `label` is what torch calls it (cpu, mps, cuda:N)."""

    label: str
    info: DeviceInfo


def find(wanted: str, needs_torch: bool, torch_version: str) -> Device:
    """The device for `wanted` (auto, cpu, mps, cuda, cuda:N); auto takes the best, cpu where torch is not needed.

    `torch_version` is the installed one, empty for none: a build named +cpu cannot use a GPU. Raises NoSuchDevice.
    """
    if wanted == "cpu" or (wanted == "auto" and not needs_torch):
        return _cpu()
    has_gpu_build = _has_gpu_build(torch_version)
    cuda = _cuda_devices() if has_gpu_build else []
    if wanted == "auto":
        return cuda[0] if cuda else _mps() or _cpu()
    if wanted == "mps":
        if (mps := _mps()) is None:
            raise NoSuchDevice("device mps is not here: this is no Mac with Apple silicon; use --device cpu")
        return mps
    index = int(re.fullmatch(r"cuda(?::(\d+))?", wanted)[1] or 0)  # type: ignore[index]
    if index >= len(cuda):
        build = "" if has_gpu_build else f"; the installed torch ({torch_version or 'none'}) has no CUDA"
        raise NoSuchDevice(f"device {wanted} is not here: {len(cuda)} CUDA devices found{build}")
    return cuda[index]


def settle(label: str) -> Callable[[], None]:
    """What waits until the device has done all that it was told; the CPU does it at once."""
    if label == "cpu":
        return lambda: None

    def wait() -> None:
        import torch  # whoever waits has computed, so it is loaded

        torch.mps.synchronize() if label == "mps" else torch.cuda.synchronize(label)

    return wait


def labels(torch_version: str) -> list[str]:
    """The devices of this machine that deserve a worker each: every GPU that torch can use, else the CPU."""
    found = _cuda_devices() if _has_gpu_build(torch_version) else []
    return [device.label for device in found] or [find("auto", True, torch_version).label]


def _has_gpu_build(torch_version: str) -> bool:
    return bool(torch_version) and not torch_version.endswith("+cpu")


def _cpu() -> Device:
    return Device(label="cpu", info=DeviceInfo(kind="cpu", name=_processor_name(), memory_bytes=_memory_bytes()))


def _mps() -> Device | None:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    info = DeviceInfo(kind="mps", name="Apple silicon", memory_bytes=_memory_bytes())
    return Device(label="mps", info=info)


def _cuda_devices() -> list[Device]:
    """The devices the driver shows this process, in the order torch counts them."""
    try:
        cuda = ctypes.CDLL(_CUDA_LIBRARY)
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_cuda_device(cuda, index) for index in range(count.value)]


def _cuda_device(cuda: ctypes.CDLL, index: int) -> Device:
    handle, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    info = DeviceInfo(kind="cuda", name=name.value.decode(errors="replace"), memory_bytes=memory.value)
    return Device(label=f"cuda:{index}", info=info)


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform module says what it knows
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
