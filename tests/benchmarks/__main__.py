"""`python -m tests.benchmarks [--smoke]`: prints every row as it is measured, then a table; writes build/bench.json.

Without `--smoke` the table is also appended to docs/results.md, with date and commit. `--smoke` runs every benchmark
once at tiny sizes, in under a minute: it shows that all of them work, and its numbers mean nothing. Exit code 1 if a
benchmark failed; the others still run.
"""

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import batches, extraction, precomputed, registered, scale, scoring, training
from tests.benchmarks.report import Measurement, commit, failed, run, table, write_json
from tests.benchmarks.sizes import FULL, SMOKE

RESULTS = Path("docs/results.md")


def main() -> int:
    """Runs all benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; writes build/bench-smoke.json instead")
    sizes = SMOKE if parser.parse_args().smoke else FULL
    files = (scoring, registered, training, batches, precomputed, scale, extraction)
    results = list(run(benchmark for file in files for benchmark in file.benchmarks(sizes)))
    if sizes == SMOKE:  # goals are stated for the full sizes
        results = [replace(result, goal=None) if isinstance(result, Measurement) else result for result in results]
    print(f"\n{table(results)}")
    path = Path("build/bench-smoke.json" if sizes == SMOKE else "build/bench.json")
    write_json(path, results)
    print(f"\nwritten: {path}")
    if sizes == FULL:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n## `make bench`, {datetime.now(UTC):%Y-%m-%d}, commit {commit()}\n\n{table(results)}\n")
        print(f"appended: {RESULTS}")
    return 1 if failed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
