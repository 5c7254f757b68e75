"""Work with faults for some minutes, then the final checks.

    python -m tests.soak --minutes 60 [--seed 0]

A stack of two nodes extracts growing data, trains, promotes, indexes and serves, while faults are injected by a plan
that follows from the seed. Prints what was injected, what failed and was resumed, and the checks afterwards. The exit
code is 1 if a check is not met. Memory is measured in half an hour or more.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.reports.tables import Table
from tests.soak.checks import Check, final_checks
from tests.soak.memory import Memory
from tests.soak.team import Team
from tests.soak.trouble import Trouble, small_disk
from tests.support.servers import free_ports
from tests.support.stack import running_stack


def soak(minutes: float, seed: int) -> tuple[Team, Trouble, list[Check]]:
    """Runs the stack for some minutes and returns what was done, what was injected, and the final checks."""
    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary, "cache")) as cache:
        folder = Path(temporary, "stack")
        folder.mkdir()
        with running_stack(folder) as stack:
            team = Team(stack, folder / "scenes", cache, free_ports(1)[0])
            trouble, memory = Trouble(stack, cache, seed), Memory()
            team.prepare()
            until, end = time.monotonic() + 60 * minutes, threading.Event()
            try:
                with ThreadPoolExecutor(3) as pool:
                    faults, samples = pool.submit(trouble.run, until, end), pool.submit(memory.watch, until, end)
                    searches = pool.submit(team.serve, end)
                    try:
                        team.work(until)
                        faults.result()
                        samples.result()
                        team.settle()
                        found = final_checks(team, trouble, memory.growth())
                    finally:
                        end.set()
                    searches.result()
            finally:
                team.stop()
    return team, trouble, found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    team, trouble, checks = soak(arguments.minutes, arguments.seed)
    kinds = Counter(kind for _, kind, _ in trouble.injected)
    print(Table("faults", ["fault", "times"], [[kind, str(count)] for kind, count in kinds.items()]).markdown())
    failed = Counter(command for command, _, _ in team.tries)
    work = [[command, str(count), str(failed.pop(command, 0))] for command, count in team.done.items()]
    work += [[command, "0", str(count)] for command, count in failed.items()]
    print(Table(f"{team.rounds} rounds of work", ["command", "succeeded", "submitted again"], work).markdown())
    tries = [[command, str(code), last[:160]] for command, code, last in team.tries]
    print(Table("why commands were submitted again", ["command", "exit code", "last line"], tries).markdown())
    statuses = [[str(status), str(count)] for status, count in sorted(team.responses.items())]
    print(Table("responses of the service", ["status", "requests"], statuses).markdown())
    rows = [[check.what, check.found, check.result] for check in checks]
    print(Table("afterwards", ["check", "found", ""], rows).markdown())
    sys.exit(any(check.is_met is False for check in checks))


if __name__ == "__main__":
    main()
