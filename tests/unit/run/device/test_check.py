"""What does not fit the device is refused with the command that helps."""

from __future__ import annotations

import pickle

import pytest
import torch

from t2g_ray.run.device import check
from t2g_ray.run.device.check import DeviceError, check_process, check_set, check_visible


def installed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "installed_device", lambda: device)


def test_the_set_must_be_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("cpu", monkeypatch)
    check_set("cpu")
    with pytest.raises(DeviceError, match=r"found the CPU set.*make setup DEVICE=gpu.*device=cpu"):
        check_set("cuda")
    installed("cuda", monkeypatch)
    check_set("cuda")
    with pytest.raises(DeviceError, match=r"gpus=0.*found the CUDA set.*make setup DEVICE=cpu"):
        check_set("cpu")


def test_a_process_for_gpus_must_see_one(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("cuda", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"found none in this process.*t2g doctor.*DEVICE=cpu"):
        check_process("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_process("cuda")


def test_the_refusal_reaches_the_driver_of_a_run_whole() -> None:
    with pytest.raises(DeviceError) as caught:
        check_visible(0, "on any node")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
