"""`python -m tests.benchmarks.gpu`: prints every row as it is measured, then a table; writes build/bench-gpu.json.

Exit code 2 without a GPU, 1 if a benchmark failed (the others still run).
"""

import sys

from tests.support.gpu import require_gpu

if __name__ == "__main__":
    require_gpu()
    from tests.benchmarks.gpu.bench import main

    sys.exit(main())
