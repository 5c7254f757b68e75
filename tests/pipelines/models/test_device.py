"""The device on which commands run models."""

import pytest
import torch

from infra.errors import UserError
from pipelines.models.device import choose_device


def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch):
    for has_gpu, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert choose_device("auto") == device
    assert choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_a_missing_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^--device is cuda, but torch finds no GPU on this machine; choose cpu"):
        choose_device("cuda")
