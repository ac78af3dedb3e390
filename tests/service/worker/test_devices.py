from __future__ import annotations

import pytest

from service.worker.devices import NoSuchDevice, find, labels


def test_the_cpu_is_described() -> None:
    device = find("cpu", needs_torch=True, torch_version="2.13.0")
    assert (device.label, device.info.kind) == ("cpu", "cpu")
    assert device.info.name
    assert device.info.memory_bytes > 1 << 20


def test_auto_takes_the_cpu_when_nothing_needs_torch() -> None:
    assert find("auto", needs_torch=False, torch_version="2.13.0").label == "cpu"


def test_auto_takes_no_gpu_with_a_torch_that_has_no_cuda() -> None:
    assert find("auto", needs_torch=True, torch_version="2.13.0+cpu").label != "cuda:0"


def test_a_gpu_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(NoSuchDevice, match=r"device cuda:77 is not here: \d+ CUDA devices found"):
        find("cuda:77", needs_torch=True, torch_version="2.13.0")
    with pytest.raises(NoSuchDevice, match=r"2\.13\.0\+cpu\) has no CUDA"):
        find("cuda", needs_torch=True, torch_version="2.13.0+cpu")


def test_a_torch_without_cuda_gets_one_worker_for_the_machine() -> None:
    assert labels("2.13.0+cpu") in (["cpu"], ["mps"])
    assert labels("") in (["cpu"], ["mps"])
