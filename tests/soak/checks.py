"""What must be true of the stack after work with faults, each checked by a command or by a server's own answer."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ

from infra.registry import champion_version, champions
from infra.registry_lock import lock_name
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from tests.soak.memory import Growth
from tests.soak.team import NAME, QUERIES, Team

MOST_GROWTH = 64.0
"""MiB per hour that a process may grow beyond the first third of the time."""
SHORTEST_S = 1200.0
"""Seconds of samples from which growth counts: processes warm up for minutes."""


@dataclass(frozen=True)
class Check:
    """One row of the final checks."""

    what: str
    found: str
    is_met: bool


def final_checks(team: Team, growth: list[Growth]) -> list[Check]:
    """Returns all checks. A check that cannot be made is one that is not met."""
    stack = team.stack
    with _tracking_variables(team):
        tracking = connect(TrackingConfig(uri=stack.mlflow.uri))
        checks: dict[str, Callable[[], tuple[str, bool]]] = {
            "planned = written + rejected": lambda: _account(team),
            "the feature set verifies": lambda: _verified(team, "jobs.features", team.features),
            "the index verifies": lambda: _verified(team, "jobs.index", team.index),
            "one champion with a whole history": lambda: _champion(tracking),
            "no run is left RUNNING": lambda: _running(tracking),
            "no lock is left": lambda: _locks(tracking),
            "no temporary object is left": lambda: _temporary(team),
            "results of the service are those of jobs.search": lambda: _results(team),
            f"no process grows by more than {MOST_GROWTH:g} MiB an hour": lambda: _flat(growth),
        }
        return [_checked(what, check) for what, check in checks.items()]


def _checked(what: str, check: Callable[[], tuple[str, bool]]) -> Check:
    try:
        return Check(what, *check())
    except Exception as error:  # noqa: BLE001 - the report states it
        return Check(what, f"{type(error).__name__}: {str(error)[-300:]}", is_met=False)


@contextmanager
def _tracking_variables(team: Team) -> Iterator[None]:
    environ.update(team.stack.tracking())
    try:
        yield
    finally:
        for name in team.stack.tracking():
            del environ[name]


def _account(team: Team) -> tuple[str, bool]:
    planned, written, rejected = team.planned
    return f"{planned} = {written} + {rejected}", planned == written + rejected > 0


def _verified(team: Team, job: str, uri: str) -> tuple[str, bool]:
    return team.stack.here(job, "verify", uri).strip().splitlines()[-1], True  # another exit code raises


def _champion(tracking: Tracking) -> tuple[str, bool]:
    history, champion = champions(tracking, NAME), champion_version(tracking, NAME)
    return f"version {champion}, history {history}", bool(history) and history[-1] == champion


def _running(tracking: Tracking) -> tuple[str, bool]:
    client = tracking.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return f"{len(found)} runs", not found


def _locks(tracking: Tracking) -> tuple[str, bool]:
    names = [model.name for model in tracking.client().search_registered_models()]
    return ", ".join(names), lock_name(NAME) not in names


def _temporary(team: Team) -> tuple[str, bool]:
    names = list(open_store(team.stack.uri("")).objects())
    found = [name for name in names if re.search(r"\.part-|\.tmp|/temporary", name)]
    return f"{len(found)} of {len(names)} objects", not found


def _results(team: Team) -> tuple[str, bool]:
    equal = 0
    for sentence in QUERIES:
        status, served = team.search(sentence)
        (alone,) = json.loads(team.stack.here("jobs.search", sentence, "--index", team.index, "--top", "5", "--json"))
        keys = [[hit["key"] for hit in found["hits"]] for found in (served, alone)] if status == 200 else [[], None]
        equal += keys[0] == keys[1]
    return f"{equal} of {len(QUERIES)} rankings", equal == len(QUERIES)


def _flat(growth: list[Growth]) -> tuple[str, bool]:
    text = ", ".join(f"{each.name} {each.mib_per_hour:+.0f}" for each in growth)
    counted = [each for each in growth if each.seconds >= SHORTEST_S]
    return text if counted else f"too short to count: {text}", all(e.mib_per_hour <= MOST_GROWTH for e in counted)
