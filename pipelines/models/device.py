"""The device on which a command runs a model."""

from typing import Literal

from infra.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


def choose_device(requested: Device, option: str = "--device") -> str:
    """Returns torch's name of the device. Raises UserError naming `option` for `cuda` where torch finds no GPU."""
    import torch  # in the function, as every command imports this module for its options

    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            f"{option} is cuda, but torch finds no GPU on this machine; choose cpu or install a CUDA build of torch"
        )
    return "cuda"
