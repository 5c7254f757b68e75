"""`python -m tests.gpu [pytest arguments]`: the GPU tier of the tests; exit code 2 without a GPU."""

import sys
from pathlib import Path

from tests.support.gpu import require_gpu

if __name__ == "__main__":
    require_gpu()
    import pytest

    folder = str(Path(__file__).parent)
    # tests/conftest.py belongs to the other tiers and imports packages that a bare GPU machine lacks.
    sys.exit(pytest.main([folder, f"--confcutdir={folder}", "-p", "no:cacheprovider", "--durations=0", *sys.argv[1:]]))
