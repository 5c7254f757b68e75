"""Estimates an extraction: a short measured probe, scaled to a cluster.

The probe runs as one detector process of the current cluster, on photos spread over the data set. The estimate computes
the throughput of every part of the cluster in photos/s; the smallest one is the bottleneck.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.cluster_resources import result_of
from infra.errors import UserError
from infra.storage.open import open_store
from infra.storage.process_folder import temporary_folder
from pipelines.datasets.manifest import Photo
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import TASK_CPUS, ExtractConfig
from pipelines.extraction.detect import Detect
from pipelines.extraction.estimate_config import EstimateConfig
from pipelines.extraction.operators import Commit, Fetch, part_row
from pipelines.extraction.reconcile import FeatureSetPlan
from pipelines.extraction.worker_errors import as_user_errors
from pipelines.features.receipt import Receipt
from pipelines.features.shard_plan import PlannedPart

PROBE_PHOTOS = 48
"""Most photos of the probe."""
_PROBE_SHARD = "features-train-000000-00000000"


@dataclass(frozen=True)
class Probe:
    """Measurements of one process, in seconds and bytes per photo."""

    photos: int
    fetch_s: float
    """Fetching and decoding."""
    detect_s: float
    """Detection, after one warm-up batch."""
    commit_s: float
    """Building and writing the photo's part of a shard, on a local disk."""
    shard_bytes: float
    """Size in the shard."""
    start_s: float = 0.0
    """Starting workers and loading the detector, once per job (not per photo)."""


@dataclass(frozen=True)
class Estimate:
    """Work, time and cost of an extraction."""

    shards: int
    """Shards to write."""
    photos: int
    """Photos to detect."""
    bytes: float
    seconds: float
    dollars: float
    detectors: int
    """Detector processes that fit on the cluster."""
    photos_per_s: float
    bottleneck: str
    """The part of the cluster that limits `photos_per_s`."""


def choose_probe_photos(plan: FeatureSetPlan) -> list[Photo]:
    """Returns at most PROBE_PHOTOS of the photos that need detection, evenly spread over the plan."""
    counts = [len(task.to_detect) for task in plan.missing]
    step = max(1, sum(counts) // PROBE_PHOTOS)
    chosen, start = list[Photo](), 0
    for task, count in zip(plan.missing, counts, strict=True):
        chosen += [task.photos[int(at)] for at in task.to_detect[-start % step :: step]]
        start += count
    return chosen[:PROBE_PHOTOS]


def probe(photos: Sequence[Photo], root: str, spec: DetectorSpec, config: ExtractConfig) -> Probe:
    """Runs the operators on photos in this process and measures them. Raises UserError if no photo can be used."""
    clock = time.perf_counter
    with temporary_folder("shan-estimate-") as folder:
        store = open_store(str(folder))
        detect = Detect(spec, config.device, config.detector_batch_size, store)
        fetch = Fetch(root, store)
        detect(fetch(part_row(_PROBE_SHARD, PlannedPart(_PROBE_SHARD, photos[: config.detector_batch_size]), {})))
        warm = clock()
        row = fetch(part_row(_PROBE_SHARD, PlannedPart(_PROBE_SHARD, photos), {}))
        fetched = clock()
        row = detect(row)
        detected = clock()
        done = Commit(store)(row)
        committed = clock()
    receipt = Receipt.from_json(done["receipt"])
    count = len(receipt.written)
    if not count:
        raise UserError(
            f"none of {len(photos)} probed photos can be used, first {receipt.rejected[0].source}: "
            f"{receipt.rejected[0].reason}; fix the photos and run again"
        )
    return Probe(
        count,
        (fetched - warm) / count,
        (detected - fetched) / count,
        (committed - detected) / count,
        receipt.size / count,
    )


def run_probe(photos: Sequence[Photo], root: str, spec: DetectorSpec, config: ExtractConfig, started: float) -> Probe:
    """Runs `probe` as one Ray task with a detector's resources.

    `started` is the `time.perf_counter` before Ray was started; what was not work on photos since then is start-up.
    Raises UserError as `probe`, and if its process dies.
    """
    import ray

    task = ray.remote(num_cpus=config.detector_cpus, num_gpus=config.detector_gpus, max_retries=0)(probe)
    with as_user_errors():
        try:
            running = task.remote(list(photos), root, spec, config)
            found: Probe = result_of(running, f"a probe of {len(photos)} photos")
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            raise UserError(
                "the probe's process died (out of memory, or a crash of a decoder or of the detector); extract without "
                "--plan: an extraction isolates the photo"
            ) from error
    work = found.photos * (found.fetch_s + found.detect_s + found.commit_s)
    return replace(found, start_s=time.perf_counter() - started - work)


def resolve_cluster(config: EstimateConfig, is_local: bool) -> EstimateConfig:
    """Returns the config, or one node with all resources of the current Ray cluster if it has no nodes."""
    import ray

    if config.num_nodes:
        return config
    resources = ray.cluster_resources()
    # A local cluster has more logical CPUs than cores, for operators that wait.
    cpus = os.cpu_count() or 1 if is_local else resources.get("CPU", 1)
    return replace(config, num_nodes=1, cpus_per_node=float(cpus), gpus_per_node=float(resources.get("GPU", 0)))


def estimate(measured: Probe, plan: FeatureSetPlan, config: ExtractConfig, cluster: EstimateConfig) -> Estimate:
    """Returns the estimated shards, hours and cost of the job on this cluster (`resolve_cluster`)."""
    cpus, gpus = cluster.num_nodes * cluster.cpus_per_node, cluster.num_nodes * cluster.gpus_per_node
    # Beside the detector processes, one fetching and one committing task must fit.
    fit = (cpus - 2 * TASK_CPUS) / config.detector_cpus
    if config.detector_gpus:
        fit = min(fit, gpus / config.detector_gpus)
    detectors = max(config.min_detector_actors, min(config.max_detector_actors, int(fit)))
    detectors = min(detectors, sum(task.part_count - len(task.done) for task in plan.missing))
    task_s = measured.fetch_s + measured.commit_s
    rates = {
        "detector processes": detectors / measured.detect_s,
        "cores": cpus / (task_s + measured.detect_s * config.detector_cpus),
        "fetching tasks": max(cpus - detectors * config.detector_cpus, TASK_CPUS) / TASK_CPUS / task_s,
    }
    bottleneck = min(rates, key=lambda name: rates[name])
    detected = sum(len(task.to_detect) for task in plan.missing)
    written = sum(len(task.photos) for task in plan.missing)
    seconds = measured.start_s + detected / rates[bottleneck]
    dollars = seconds / 3600 * cluster.num_nodes * cluster.dollars_per_node_hour
    return Estimate(
        len(plan.missing),
        detected,
        written * measured.shard_bytes,
        seconds,
        dollars,
        detectors,
        rates[bottleneck],
        bottleneck,
    )
