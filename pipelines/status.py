"""The state of everything that jobs write and use, as tables: feature sets, runs, models, jobs of a cluster.

Nothing is cached: each function queries the object store, MLflow or Ray's job API.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from infra.errors import StorageError, UserError
from infra.ray_jobs import job_client
from infra.redaction import redact
from infra.registry import champion_version, name_filter
from infra.registry_lock import lock_name
from infra.source_tree import program
from infra.storage.base import ObjectInfo, Store
from infra.storage.open import open_store
from infra.tracking import Tracking
from pipelines.failed import rank_logs
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import INDEX, complete_shards, kind_of, receipt_name
from pipelines.features.mlflow_lineage import FEATURE_SET_URI
from pipelines.reports.tables import Table

MAX_RUNS = 20
"""Number of runs that `trainings` returns."""


def feature_sets(root: Store) -> Table:
    """Returns a row for each feature set below the root, finished or not."""
    listed: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    for name, info in root.objects().items():
        folder, _, rest = name.partition("/")
        if "/" not in rest:
            listed[folder][rest] = info
    rows = [
        _feature_set(root, folder, objects)
        for folder, objects in listed.items()
        if any(kind_of(name) == "manifest" for name in objects)
    ]
    header = ["feature set", "state", "photos", "rejected", "shards", "GB", "detector"]
    records = f"; FEATURE-SET/{receipt_name('SHARD')} records the photos of a shard, and why others were rejected"
    return Table(f"feature sets at {root.uri}{records if rows else ''}", header, rows)


def _feature_set(root: Store, folder: str, objects: Mapping[str, ObjectInfo]) -> list[str]:
    complete = set(complete_shards(objects))
    size = f"{sum(info.size for name, info in objects.items() if name.endswith('.tar')) / 1e9:.2f}"

    def without_index(state: str) -> list[str]:
        return [folder, state, "", "", str(len(complete)), size, ""]

    if INDEX not in objects:
        return without_index("not finished")
    try:
        index = read_index(open_store(f"{root.uri}/{folder}"))
    except InvalidIndexError as error:
        return without_index(f"{INDEX} is not valid: {error.reason}")
    except (UserError, StorageError) as error:  # the other feature sets may be readable
        return without_index(str(error))
    indexed = {shard.name for shard in index.shards}
    missing, unindexed = len(indexed - complete), len(complete - indexed)
    state = f"{missing} shards are missing" if missing else f"finished @{index.feature_set[:12]}"
    if unindexed and not missing:
        state += f", {unindexed} shards of an unfinished extraction"
    counts = [str(index.photos_written), str(index.photos_rejected), str(len(indexed))]
    return [folder, state, *counts, size, index.fingerprint]


def trainings(tracking: Tracking) -> Table:
    """Returns the newest runs with their latest metrics, and how long ago a running one logged its loss."""
    experiments = [tracking.experiment_id] if tracking.experiment_id else []
    runs = tracking.client().search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=MAX_RUNS)
    return Table(
        f"trainings (the newest {MAX_RUNS})",
        ["run", "name", "state", "started", "epoch", "validation rSum", "last metric", "features"],
        [_training(tracking, run) for run in runs],
    )


def _training(tracking: Tracking, run: Any) -> list[str]:
    metrics = run.data.metrics
    history = tracking.client().get_metric_history(run.info.run_id, "loss") if run.info.status == "RUNNING" else []
    last = max((value.timestamp for value in history), default=None)
    return [
        run.info.run_id,
        run.info.run_name,
        run.info.status.lower(),
        _when(run.info.start_time),
        f"{metrics['epoch']:.0f}" if "epoch" in metrics else "",
        f"{metrics['val_rsum']:.1f}" if "val_rsum" in metrics else "",
        "" if last is None else f"{(datetime.now(UTC).timestamp() - last / 1000) / 60:.0f} min ago",
        run.data.tags.get(FEATURE_SET_URI, ""),
    ]


def running_logs(tracking: Tracking) -> Table:
    """Returns a row for the log of each rank of the trainings that are running."""
    experiments = [tracking.experiment_id] if tracking.experiment_id else []
    running = "attributes.status = 'RUNNING'"
    runs = tracking.client().search_runs(
        experiments, running, order_by=["attributes.start_time DESC"], max_results=MAX_RUNS
    )
    rows = [
        [run.info.run_id, str(rank), *place.rpartition(":")[::2]]
        for run in runs
        for rank, place in rank_logs(run.data.tags)
    ]
    return Table("logs of running trainings", ["run", "rank", "node", "log"], rows)


def models(tracking: Tracking) -> Table:
    """Returns a row for each registered model: its champion, and later versions not evaluated by `jobs.promote`."""
    client = tracking.client()
    names = {model.name for model in client.search_registered_models(max_results=1000)}
    locks = {lock_name(name) for name in names}
    rows = [_model(tracking, name, lock_name(name) in names) for name in sorted(names - locks)]
    header = ["model", "versions", "champion", "since", "reason", "not evaluated", "promotion"]
    return Table("models", header, rows)


def _model(tracking: Tracking, name: str, locked: bool) -> list[str]:
    versions = {int(v.version): v for v in tracking.client().search_model_versions(name_filter(name))}
    champion = champion_version(tracking, name)
    tags = versions[champion].tags if champion in versions else {}
    waiting = sorted(number for number, version in versions.items() if "promotion.decision" not in version.tags)
    return [
        name,
        str(len(versions)),
        "none" if champion is None else str(champion),
        tags.get("promoted_at", ""),
        tags.get("promotion.reason", ""),
        ", ".join(str(number) for number in waiting if champion is None or number > champion),
        "running, or a killed one left its lock" if locked else "",
    ]


def cluster_jobs(address: str) -> Table:
    """Returns the submitted jobs of a cluster that have not ended. Raises UnreachableError."""
    found = [job for job in job_client(address).list_jobs() if job.submission_id and not job.status.is_terminal()]
    rows = [
        [str(job.submission_id), job.status.lower(), _when(job.start_time), redact(job.entrypoint)] for job in found
    ]
    log = f"`{program('submit')} logs SUBMISSION --address {address}` prints the log of one"
    return Table(f"running jobs at {address}; {log}", ["submission", "state", "started", "command"], rows)


def _when(milliseconds: int | None) -> str:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).isoformat(" ", "minutes")[:16]
