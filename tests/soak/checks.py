"""What must be true of the stack after work with faults, each checked by a command or by a server's own answer."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from typing import Any

from infra.failures import OBJECT
from infra.registry import HISTORY_TAG, MAX_HISTORY, champion_version
from infra.registry_lock import lock_name
from infra.storage.disk import TEMPORARY_NAME
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.layout import KINDS, PART_NAME
from tests.soak.memory import PERMANENT, Growth
from tests.soak.team import NAME, QUERIES, Team
from tests.soak.trouble import DISK_FULL, Trouble

MOST_GROWTH = 64.0
"""MiB per hour that a process may grow beyond the first third of the time."""
SHORTEST_S = 1200.0
"""Seconds of samples from which growth counts: processes warm up for minutes."""
MANY_FAULTS = 14
"""Faults of which each kind must be one: the plan has each kind twice by then, and some find nothing to do."""
PART_OBJECT = re.compile(rf"{PART_NAME.pattern}\..+")
"""Objects of a part of a shard: its tar, its receipt and its attempts."""
LEAST_AVAILABLE = 0.75
"""Fraction of requests that a service of one process, killed and moved again and again, must respond to."""


@dataclass(frozen=True)
class Check:
    """One row of the final checks."""

    what: str
    found: str
    is_met: bool | None
    """None if it could not be measured: the memory, in less than half an hour."""

    @property
    def result(self) -> str:
        """The result as the report prints it."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.is_met]


def final_checks(team: Team, trouble: Trouble, growth: list[Growth]) -> list[Check]:
    """Returns all checks. One that raises is not met."""
    stack = team.stack
    with _tracking_variables(team):
        tracking = connect(TrackingConfig(uri=stack.mlflow.uri))
        checks: dict[str, Callable[[], tuple[str, bool | None]]] = {
            "planned = written + rejected": lambda: _account(team),
            "all feature sets verify": lambda: _verified(team, "features"),
            "all indexes verify": lambda: _verified(team, "indexes", "jobs.index"),
            "one champion, whose history has all promoted versions": lambda: _champion(tracking),
            "no run is left RUNNING": lambda: _running(tracking),
            "no lock is left": lambda: _locks(tracking),
            "no temporary object and no incomplete upload is left": lambda: _temporary(team),
            "results of the service are those of jobs.search": lambda: _results(team),
            f"the service responds to {LEAST_AVAILABLE:.0%} of the requests": lambda: _available(team),
            "all kinds of faults were injected": lambda: _injected(trouble),
            f"no process grows by more than {MOST_GROWTH:g} MiB an hour": lambda: _flat(growth),
        }
        return [_checked(what, check) for what, check in checks.items()]


def _checked(what: str, check: Callable[[], tuple[str, bool | None]]) -> Check:
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
    written, rejected = team.accounted
    return f"{team.photos} = {written} + {rejected}", team.photos == written + rejected > 0


def _verified(team: Team, place: str, job: str = "jobs.features") -> tuple[str, bool]:
    root = open_store(team.stack.uri(place))
    # A corrupt one gives another exit code, for which `here` raises.
    last = [team.stack.here(job, "verify", f"{root.uri}/{name}").strip().splitlines()[-1] for name in root.folders()]
    return "; ".join(last), bool(last)


def _champion(tracking: Tracking) -> tuple[str, bool]:
    client = tracking.client()
    history = [int(version) for version in client.get_registered_model(NAME).tags[HISTORY_TAG].split()]
    versions = client.search_model_versions(f"name = '{NAME}'")
    promoted = sorted(int(each.version) for each in versions if each.tags.get("promotion.decision") == "promoted")
    champion = champion_version(tracking, NAME)
    found = f"version {champion} of {len(versions)}, {len(history)} in its history, {len(promoted)} promoted"
    return found, history == promoted[-MAX_HISTORY:] and history[-1:] == [champion]


def _running(tracking: Tracking) -> tuple[str, bool]:
    client = tracking.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return f"{len(found)} runs", not found


def _locks(tracking: Tracking) -> tuple[str, bool]:
    names = [model.name for model in tracking.client().search_registered_models()]
    return ", ".join(names), lock_name(NAME) not in names


def _temporary(team: Team) -> tuple[str, bool]:
    store = open_store(team.stack.uri(""))
    names, uploads = list(store.objects()), store.incomplete_uploads()
    found = temporary_objects(names)
    text = f"{len(found)} of {len(names)} objects, {len(uploads)} uploads"
    return ": ".join([text, *found[:3]]), not found and not uploads


def temporary_objects(names: Iterable[str]) -> list[str]:
    """Returns the objects that completed work deletes: files being written, parts of shards, attempts, failures."""
    kept_until_complete = (TEMPORARY_NAME, PART_OBJECT, KINDS["attempts"], re.compile(re.escape(OBJECT)))
    return [name for name in names if any(each.fullmatch(name.rpartition("/")[2]) for each in kept_until_complete)]


def _results(team: Team) -> tuple[str, bool]:
    equal = 0
    for sentence in QUERIES:
        status, served = team.search(sentence)
        (alone,) = json.loads(team.stack.here("jobs.search", sentence, "--index", team.index, "--top", "5", "--json"))
        equal += status == 200 and not served["partial"] and _hits(served) == _hits(alone)
    return f"{equal} of {len(QUERIES)} rankings with their scores", equal == len(QUERIES)


def _hits(found: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["key"], round(hit["score"], 4)) for hit in found["hits"]]


def _available(team: Team) -> tuple[str, bool]:
    total = sum(team.responses.values())
    succeeded = team.responses.get(200, 0) / max(total, 1)
    return f"{succeeded:.0%} of {total}", succeeded >= LEAST_AVAILABLE


def _injected(trouble: Trouble) -> tuple[str, bool]:
    kinds = {kind for _, kind, _ in trouble.injected}
    missing = {*trouble.faults, DISK_FULL} - kinds
    tried = len(trouble.injected) + len(trouble.skipped)
    text = f"{len(trouble.injected)}, {len(trouble.skipped)} found nothing to do"
    text += f"; without {', '.join(sorted(missing))}" if missing else ""
    return text, tried > 0 and (not missing or tried < MANY_FAULTS)


def _flat(growth: list[Growth]) -> tuple[str, bool | None]:
    text = ", ".join(f"{each.name} {each.mib_per_hour:+.0f}" for each in growth)
    counted = [each for each in growth if each.seconds >= SHORTEST_S]
    if not counted:
        return f"needs half an hour: {text}", None
    unseen = set(PERMANENT.values()) - {each.name for each in counted}
    text += f"; not seen: {', '.join(sorted(unseen))}" if unseen else ""
    return text, not unseen and all(each.mib_per_hour <= MOST_GROWTH for each in counted)
