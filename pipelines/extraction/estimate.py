"""What an extraction will take: a short measured probe, scaled to a cluster.

The probe runs on one detector process of the cluster at hand, on photos spread over the data set. The estimate says how
many photos a second each part of the cluster lets through; the smallest decides.
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.manifest import Photo
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.ray_graph import TASK_CPUS
from pipelines.extraction.reconcile import FeatureSetPlan, ShardPlan
from pipelines.extraction.stages import Commit, Detect, Fetch, plan_row
from pipelines.extraction.worker_errors import told_in_one_line
from pipelines.features.shards import Receipt

PROBE_PHOTOS = 48


@dataclass(frozen=True)
class EstimateConfig:
    """The cluster that `--plan` estimates for."""

    num_nodes: int = 0
    """Worker nodes; 0 is the cluster at hand, with all that it has as one node."""
    cpus_per_node: float = 16.0
    """Cores of a node."""
    gpus_per_node: float = 0.0
    """GPUs of a node."""
    dollars_per_node_hour: float = 0.0
    """Price of a node; 0 leaves the cost out."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("num_nodes", "gpus_per_node", "dollars_per_node_hour"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"estimate.{name} is {getattr(self, name)}; it must not be negative")
        if not 0 < self.cpus_per_node < math.inf:
            raise ValueError(f"estimate.cpus_per_node is {self.cpus_per_node}; it must be positive")


@dataclass(frozen=True)
class Probe:
    """What one process needed, in seconds and bytes."""

    photos: int
    fetch_s: float
    """To fetch and decode a photo."""
    detect_s: float
    """To detect a photo, after a first batch that warms up."""
    commit_s: float
    """To build and write a photo's part of a shard, on a local disk."""
    shard_bytes: float
    """Of a photo in its shard."""
    start_s: float = 0.0
    """To start workers and load the detector, once; `measure` knows it."""


@dataclass(frozen=True)
class Estimate:
    """The answer. `bound` names the part of the cluster that decides."""

    shards: int
    photos: int
    bytes: float
    seconds: float
    dollars: float
    detectors: int
    photos_per_s: float
    bound: str


def choose_photos(plan: FeatureSetPlan) -> list[Photo]:
    """At most PROBE_PHOTOS of those that need the detector, spread evenly."""
    waiting = [photo for shard in plan.missing for photo in shard.photos if photo.key not in shard.reuse]
    step = max(1, len(waiting) // PROBE_PHOTOS)
    return waiting[::step][:PROBE_PHOTOS]


def probe(photos: Sequence[Photo], root: str, spec: DetectorSpec, config: ExtractConfig) -> Probe:
    """Runs the stages on some photos in this process, as a detector's process runs them; meant as a Ray task."""
    clock = time.perf_counter
    detect = Detect(spec, config.device, config.detector_batch_size)
    fetch = Fetch(root)
    detect(
        fetch(plan_row(ShardPlan("features-train-000000-00000000", tuple(photos[: config.detector_batch_size]), {})))
    )
    warm = clock()
    row = fetch(plan_row(ShardPlan("features-train-000000-00000000", tuple(photos), {})))
    fetched = clock()
    row = detect(row)
    detected = clock()
    with TemporaryDirectory() as folder:
        done = Commit(open_store(folder))(row)
    committed = clock()
    receipt = Receipt.from_json(done["receipt"])
    count = len(receipt.written)
    if not count:
        raise UserError(
            f"none of {len(photos)} probed photos can be used, first: {receipt.rejected[0].reason}; mend them"
        )
    return Probe(
        count,
        (fetched - warm) / count,
        (detected - fetched) / count,
        (committed - detected) / count,
        receipt.size / count,
    )


def measure(photos: Sequence[Photo], root: str, spec: DetectorSpec, config: ExtractConfig, since: float) -> Probe:
    """`probe` as one Ray task with a detector's resources. `since`: when Ray was asked for (`time.perf_counter`)."""
    import ray

    task = ray.remote(num_cpus=config.detector_cpus, num_gpus=config.detector_gpus, max_retries=0)(probe)
    with told_in_one_line():
        found: Probe = ray.get(task.remote(list(photos), root, spec, config))
    # Whatever was no work on photos was the start of Ray, of a worker and of the detector.
    work = found.photos * (found.fetch_s + found.detect_s + found.commit_s)
    return replace(found, start_s=time.perf_counter() - since - work)


def at_hand(config: EstimateConfig, is_local: bool) -> EstimateConfig:
    """The cluster that a config means: one node with all that Ray has, where it names none."""
    import ray

    if config.num_nodes:
        return config
    there = ray.cluster_resources()
    # A local cluster has more logical CPUs than cores, for stages that wait.
    cpus = os.cpu_count() or 1 if is_local else there.get("CPU", 1)
    return replace(config, num_nodes=1, cpus_per_node=float(cpus), gpus_per_node=float(there.get("GPU", 0)))


def estimate(measured: Probe, plan: FeatureSetPlan, config: ExtractConfig, cluster: EstimateConfig) -> Estimate:
    """Scales a probe to `cluster`, which has nodes."""
    cpus, gpus = cluster.num_nodes * cluster.cpus_per_node, cluster.num_nodes * cluster.gpus_per_node
    # A detector process leaves at least one fetching and one committing task room to run.
    fit = (cpus - 2 * TASK_CPUS) / config.detector_cpus
    if config.detector_gpus:
        fit = min(fit, gpus / config.detector_gpus)
    detectors = max(config.detector_actors_min, min(config.detector_actors_max, int(fit)))
    detectors = min(detectors, len(plan.missing))
    task_s = measured.fetch_s + measured.commit_s
    rates = {
        "detector processes": detectors / measured.detect_s,
        "cores": cpus / (task_s + measured.detect_s * config.detector_cpus),
        "fetching tasks": max(cpus - detectors * config.detector_cpus, TASK_CPUS) / TASK_CPUS / task_s,
    }
    bound = min(rates, key=lambda name: rates[name])
    detected = sum(len(shard.photos) - len(shard.reuse) for shard in plan.missing)
    written = sum(len(shard.photos) for shard in plan.missing)
    seconds = measured.start_s + detected / rates[bound]
    dollars = seconds / 3600 * cluster.num_nodes * cluster.dollars_per_node_hour
    return Estimate(
        len(plan.missing),
        detected,
        written * measured.shard_bytes,
        seconds,
        dollars,
        detectors,
        rates[bound],
        bound,
    )
