"""`python -m tests.benchmarks [FILE ...]`: prints every row as it is measured, then a table; writes build/bench.json.

FILE is the name of a file of benchmarks, such as `scale`; without one, all run. The table is also appended to
docs/results.md, with date and commit. Exit code 1 if a benchmark failed; the others still run.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import batches, extraction, precomputed, registered, scale, scoring, training
from tests.benchmarks.report import commit, failed, run, table, write_json
from tests.benchmarks.sizes import FULL, Sizes

FILES = {
    file.__name__.rpartition(".")[2]: file
    for file in (scoring, registered, training, batches, precomputed, scale, extraction)
}
JSON, RESULTS = Path("build/bench.json"), Path("docs/results.md")


def main(arguments: Sequence[str], sizes: Sizes = FULL) -> int:
    """Runs benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=", ".join(FILES))
    names = parser.parse_args(arguments).files or list(FILES)
    if unknown := set(names) - set(FILES):
        parser.error(f"no such file: {', '.join(unknown)}; give some of {', '.join(FILES)}")
    results = list(run(benchmark for name in names for benchmark in FILES[name].benchmarks(sizes)))
    print(f"\n{table(results)}")
    write_json(JSON, results)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(f"\n## `make bench`, {datetime.now(UTC):%Y-%m-%d}, commit {commit()}\n\n{table(results)}\n")
    print(f"\nwritten: {JSON}; appended: {RESULTS}")
    return 1 if failed(results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
