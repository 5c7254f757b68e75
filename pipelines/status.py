"""pipelines/status.py."""

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import infra.tracking
from infra import ray_jobs
from infra.errors import UserError
from infra.redaction import redact
from infra.registry import champion_version, named
from infra.registry_lock import lock_name
from infra.storage.base import ObjectInfo, Store
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import INDEX, read_index
from pipelines.features.shards import SHARD_NAME, receipt_name
from pipelines.reports.tables import Table

MOST_RUNS = 20
"""Trainings that are shown, the newest first."""


def feature_sets(root: Store) -> Table:
    """A row a feature set below the root. Shards beyond those of the index are of an unfinished extraction."""
    listed: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    for name, info in root.objects().items():
        folder, _, rest = name.partition("/")
        if "/" not in rest:
            listed[folder][rest] = info
    rows = [
        _feature_set(root, folder, objects)
        for folder, objects in listed.items()
        if any(re.fullmatch(r"manifest-[0-9a-f]{12}\.parquet", name) for name in objects)
    ]
    header = ["feature set", "state", "photos", "rejected", "shards", "GB", "detector"]
    return Table(f"feature sets at {root.uri}", header, rows)


def _feature_set(root: Store, folder: str, objects: Mapping[str, ObjectInfo]) -> list[str]:
    complete = {
        name[: -len(".tar")]
        for name in objects
        if SHARD_NAME.fullmatch(name.removesuffix(".tar")) and receipt_name(name.removesuffix(".tar")) in objects
    }
    taken = sum(info.size for name, info in objects.items() if name.endswith(".tar")) / 1e9
    if INDEX not in objects:
        return [folder, "not finished", "", "", str(len(complete)), f"{taken:.2f}", ""]
    try:
        index = read_index(open_store(f"{root.uri}/{folder}"))
        shards = index["shards"]
        named = {row["name"] for row in shards}
        photos, rejected = sum(row["count"] for row in shards), sum(row["rejected"] for row in shards)
        digest, detector = index["feature_set"][:12], index["fingerprint"]
    except UserError as error:  # the store refuses, or it is of another version
        return [folder, str(error), "", "", str(len(complete)), f"{taken:.2f}", ""]
    except (ValueError, KeyError, TypeError):
        return [
            folder,
            f"its {INDEX} is damaged, or of another version",
            "",
            "",
            str(len(complete)),
            f"{taken:.2f}",
            "",
        ]
    lost = len(named - complete)
    beyond = len(complete - named)
    state = (
        f"{lost} shards are lost" if lost else f"finished @{digest}" + (f", {beyond} shards beyond" if beyond else "")
    )
    return [folder, state, str(photos), str(rejected), str(len(named)), f"{taken:.2f}", detector]


def trainings(tracking: Tracking) -> Table:
    """The newest runs, with what their curves say last and how long ago."""
    runs = tracking.client().search_runs(
        [tracking.experiment_id], order_by=["attributes.start_time DESC"], max_results=MOST_RUNS
    )
    return Table(
        f"trainings, the {MOST_RUNS} newest at most",
        ["run", "name", "state", "began", "epoch", "validation rSum", "last point", "features"],
        [_training(tracking, run) for run in runs],
    )


def _training(tracking: Tracking, run: Any) -> list[str]:
    metrics = run.data.metrics
    history = tracking.client().get_metric_history(run.info.run_id, "loss") if run.info.status == "RUNNING" else []
    last = max((point.timestamp for point in history), default=None)
    return [
        run.info.run_id,
        run.info.run_name,
        run.info.status.lower(),
        _when(run.info.start_time),
        f"{metrics['epoch']:.0f}" if "epoch" in metrics else "",
        f"{metrics['val_rsum']:.1f}" if "val_rsum" in metrics else "",
        "" if last is None else f"{(datetime.now(UTC).timestamp() - last / 1000) / 60:.0f} min ago",
        run.data.tags.get("feature_set_uri", ""),
    ]


def models(tracking: Tracking) -> Table:
    """A row a registered model: its champion and why, and the candidates after it that nobody has judged."""
    client = tracking.client()
    names = {model.name for model in client.search_registered_models(max_results=1000)}
    locks = {lock_name(name) for name in names}
    rows = [_model(tracking, name, lock_name(name) in names) for name in sorted(names - locks)]
    header = ["model", "versions", "champion", "since", "why", "not judged", "promotion"]
    return Table("models", header, rows)


def _model(tracking: Tracking, name: str, locked: bool) -> list[str]:
    versions = {int(v.version): v for v in tracking.client().search_model_versions(named(name))}
    champion = champion_version(tracking, name)
    tags = versions[champion].tags if champion in versions else {}
    waiting = sorted(number for number, version in versions.items() if "promotion.decision" not in version.tags)
    return [
        name,
        str(len(versions)),
        "none" if champion is None else str(champion),
        tags.get("promoted_at", ""),
        tags.get("promotion", ""),
        ", ".join(str(number) for number in waiting if champion is None or number > champion),
        "under way, or its lock was left" if locked else "",
    ]


def cluster_jobs(address: str) -> Table:
    """Jobs that were submitted to a cluster and have not ended."""
    with ray_jobs.cluster(address) as client:
        jobs = client.list_jobs()
    found = [job for job in jobs if job.submission_id and not job.status.is_terminal()]
    rows = [
        [str(job.submission_id), job.status.lower(), _when(job.start_time), redact(job.entrypoint)] for job in found
    ]
    return Table(f"jobs in flight at {address}", ["submission", "state", "began", "command"], rows)


def _when(milliseconds: int | None) -> str:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).isoformat(" ", "minutes")[:16]


def tracking_tables(config: TrackingConfig) -> list[Table]:
    """Trainings and models of a tracking store."""
    tracking = infra.tracking.connect(config)
    return [trainings(tracking), models(tracking)]
