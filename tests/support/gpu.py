"""The GPU that a command needs."""

import sys


def require_gpu() -> None:
    """Ends the process with exit code 2 and one line unless torch is installed and sees a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError:
        reason = f"{sys.executable} has no torch"
    else:
        if torch.cuda.is_available():
            return
        reason = f"torch {torch.__version__} of {sys.executable} finds no CUDA device"
    print(f"error: a GPU is needed, but {reason}; name another Python by GPU_PYTHON=...", file=sys.stderr)
    sys.exit(2)
