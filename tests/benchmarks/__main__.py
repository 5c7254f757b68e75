"""`make bench`: every row on the screen, in build/bench.json, and appended to docs/results.md with the commit."""

import json
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import batches, extraction, precomputed, scoring, training
from tests.benchmarks.measure import Row

JSON, RESULTS = Path("build/bench.json"), Path("docs/results.md")


def table(rows: list[Row]) -> str:
    """Markdown: the figure, its unit, the goal and whether it is met."""
    lines = ["| what | figure | goal | met |", "|---|---|---|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{'at least' if row.better == 'higher' else 'at most'} {row.goal:g}"
        met = {True: "yes", False: "no", None: ""}[row.met]
        lines.append(f"| {row.name} | {row.value:.3g} {row.unit} | {goal} | {met} |")
    return "\n".join(lines)


def commit() -> str:
    """Short hash of HEAD, marked where the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results.md")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def main() -> None:
    """Measures, prints and keeps."""
    rows = []
    for file in (batches, extraction, precomputed, scoring, training):
        for row in file.rows():
            print(f"{row.name}: {row.value:.3g} {row.unit}", flush=True)
            rows.append(row)
    print("\n" + table(rows))
    JSON.parent.mkdir(exist_ok=True)
    JSON.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2) + "\n", encoding="utf-8")
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(f"\n## `make bench`, {datetime.now(UTC):%Y-%m-%d}, commit {commit()}\n\n{table(rows)}\n")
    print(f"\nrows in {JSON}, table appended to {RESULTS}")


if __name__ == "__main__":
    main()
