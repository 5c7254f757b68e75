"""Prometheus metrics of every job and service: the one table that declares them, and how they are recorded.

The metrics of jobs are recorded with `ray.util.metrics`: the agent of each Ray node exports those of its processes,
with the prefix `ray_`. What counters count before their process connects to Ray, such as requests to a store, is
exported once it does (`export_early_counts`); a process that never does exports nothing. The router of the search
service exports its own metrics at `/metrics` (pipelines/service/metrics.py). docs/how-to/monitor.md has the same table.

Processes send what they have recorded to the agent every 10 s. The agent adds up counters, and drops a gauge that no
process has sent for 20 s; a thread therefore records the gauges of a process again until they are removed.
Record once for a part, a window of steps or a request, not for a photo or a tensor.
"""

import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

REFRESH_S = 0.5
"""Seconds after which gauges are recorded again; Ray's reports are at least 1 s apart."""

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60)
"""Upper edges of the buckets of latencies."""
UPLOAD_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""Upper edges of the buckets of uploads."""


@dataclass(frozen=True)
class Metric:
    """A metric, and the methods that record it. Counters end in `_total`; base units are seconds, bytes and ratios."""

    name: str
    """Name without the prefix `ray_`, which Ray's agents add."""
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    """Names of the labels. Ray adds others, such as `SessionName`, `WorkerId` and `NodeAddress`."""
    edges: tuple[float, ...] = ()
    """Upper edges of the buckets of a histogram."""

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
        return self.name if self.name.startswith("shan_service_") else f"ray_{self.name}"

    def add(self, value: float = 1, **labels: str) -> None:
        """Adds to a counter, as soon as this process is connected to Ray; 0 adds nothing, and creates no series."""
        if value <= 0:
            return
        if metric := _of_ray(self):
            metric.inc(value, labels)
            return
        with _lock:
            _early_counts[self, tuple(labels.items())] += value

    def set(self, value: float, **labels: str) -> None:
        """Sets a gauge, which keeps its value until it is set again or removed, or the process or Ray ends."""
        if metric := _of_ray(self):
            metric.set(value, labels)
            _keep(self, value, labels)

    def remove(self, **labels: str) -> None:
        """Removes a gauge; agents drop it within half a minute."""
        with _lock:
            _gauges.pop((self, tuple(labels.items())), None)

    def observe(self, value: float, **labels: str) -> None:
        """Counts a value in a histogram."""
        if metric := _of_ray(self):
            metric.observe(value, labels)


_recording: dict[str, Any] = {}
"""The metrics of `ray.util.metrics` that this process has recorded, by name."""
_gauges: dict[tuple[Metric, tuple[tuple[str, str], ...]], float] = {}
"""The gauges of this process, by metric and labels."""
_early_counts: "defaultdict[tuple[Metric, tuple[tuple[str, str], ...]], float]" = defaultdict(float)
"""What counters have counted while this process was not connected to Ray, by metric and labels."""
_lock = threading.Lock()


def export_early_counts() -> None:
    """Adds what was counted before this process has connected to Ray to its metrics."""
    with _lock:
        counts = dict(_early_counts)
        _early_counts.clear()
    for (metric, labels), value in counts.items():
        metric.add(value, **dict(labels))


_threads: list[threading.Thread] = []
"""The thread that refreshes gauges, while there are any."""


def _keep(metric: Metric, value: float, labels: dict[str, str]) -> None:
    with _lock:
        _gauges[metric, tuple(labels.items())] = value
        if not _threads:
            _threads.append(threading.Thread(target=_refresh, name="metrics", daemon=True))
            _threads[0].start()


def _refresh() -> None:
    """Records all gauges again and again, until none is left or Ray has ended."""
    while True:
        time.sleep(REFRESH_S)
        with _lock:
            for (metric, labels), value in _gauges.items():
                if recording := _of_ray(metric):
                    recording.set(value, dict(labels))
                else:
                    _gauges.clear()
                    break
            if not _gauges:
                _threads.clear()
                return


def _of_ray(metric: Metric) -> Any:
    """Returns the object that records a metric; None if this process is not connected to Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    if metric.name not in _recording:
        from ray.util import metrics

        if metric.kind == "histogram":
            made: Any = metrics.Histogram(metric.name, metric.meaning, list(metric.edges), metric.labels)
        else:
            make = metrics.Counter if metric.kind == "counter" else metrics.Gauge
            made = make(metric.name, metric.meaning, metric.labels)
        _recording[metric.name] = made
    return _recording[metric.name]


PLANNED_PHOTOS = Metric(
    "shan_extraction_photos_planned_total",
    "counter",
    "photos",
    "Photos that extractions had to extract when they started: those of the manifest that were not in complete parts.",
)
FETCHED_PHOTOS = Metric(
    "shan_extraction_photos_fetched_total",
    "counter",
    "photos",
    "Photos that were read. Work that is repeated after a lost process counts again.",
)
FETCHED_BYTES = Metric("shan_extraction_fetched_bytes_total", "counter", "bytes", "Bytes of the photos that were read.")
DECODED_PHOTOS = Metric("shan_extraction_photos_decoded_total", "counter", "photos", "Photos that were decoded.")
DETECTED_PHOTOS = Metric(
    "shan_extraction_photos_detected_total",
    "counter",
    "photos",
    "Photos that the detector has processed, with success.",
)
WRITTEN_PHOTOS = Metric(
    "shan_extraction_photos_written_total", "counter", "photos", "Photos in the parts and shards that were committed."
)
WRITTEN_BYTES = Metric("shan_extraction_written_bytes_total", "counter", "bytes", "Bytes of these parts and shards.")
REJECTED_PHOTOS = Metric(
    "shan_extraction_photos_rejected_total",
    "counter",
    "photos",
    "Photos that were rejected, by kind of reason: `missing`, `unreadable`, `download`, `corrupt`, `unsupported`, "
    "`too_large`, `detector`, `process_died` or `other`.",
    ("kind",),
)
PHASE_SECONDS = Metric(
    "shan_extraction_phase_seconds_total",
    "counter",
    "seconds",
    "Time that processes worked in a phase: `fetch`, `decode`, `detect`, `pack` or `put`. Its rate is the mean number "
    "of busy processes.",
    ("phase",),
)
WAIT_SECONDS = Metric(
    "shan_extraction_wait_seconds_total",
    "counter",
    "seconds",
    "Time that parts waited for an operator: `fetch`, `detect` or `commit`. Its rate is the mean number of parts in "
    "its queue.",
    ("operator",),
)
PLAN_PHOTOS = Metric(
    "shan_extraction_plan_photos",
    "gauge",
    "photos",
    "Photos of the manifest of a running extraction.",
    ("feature_set",),
)
ACCOUNTED_PHOTOS = Metric(
    "shan_extraction_accounted_photos",
    "gauge",
    "photos",
    "Photos of a running extraction that are written or rejected, those of earlier runs included.",
    ("feature_set",),
)
REJECTED_RATIO = Metric(
    "shan_extraction_rejected_ratio",
    "gauge",
    "ratio",
    "Rejected photos of a running extraction, as a fraction of those of its manifest.",
    ("feature_set",),
)
MAX_REJECTED_RATIO = Metric(
    "shan_extraction_max_rejected_ratio", "gauge", "ratio", "Its limit: `extract.max_rejected`.", ("feature_set",)
)

TRAINING_STEPS = Metric("shan_training_steps_total", "counter", "steps", "Optimizer steps of all trainings.")
TRAINING_CAPTIONS = Metric(
    "shan_training_captions_total", "counter", "captions", "Captions of these steps, of all ranks."
)
TRAINING_STEP = Metric(
    "shan_training_step",
    "gauge",
    "steps",
    "Highest step of a running training, 0 while it waits for its workers. Steps that they repeat after a restart do "
    "not count.",
    ("run",),
)
TRAINING_LOSS = Metric(
    "shan_training_loss", "gauge", "1", "Mean loss of the last `train.log_every_n_steps` steps.", ("run",)
)
GRADIENT_NORM = Metric(
    "shan_training_gradient_norm", "gauge", "1", "Mean norm of their gradients before clipping.", ("run",)
)
CAPTIONS_PER_SECOND = Metric(
    "shan_training_captions_per_second", "gauge", "captions/s", "Throughput of all ranks in these steps.", ("run",)
)
WAIT_RATIO = Metric(
    "shan_training_data_wait_ratio",
    "gauge",
    "ratio",
    "Fraction of their time that the rank which waited longest waited for batches.",
    ("run",),
)
TRAINING_MEMORY = Metric(
    "shan_training_memory_bytes",
    "gauge",
    "bytes",
    "Peak memory of a rank: allocated on its GPU (`gpu`), or of its process if it trains on the CPU (`cpu`).",
    ("run", "rank", "device"),
)
MFU_RATIO = Metric(
    "shan_training_mfu_ratio",
    "gauge",
    "ratio",
    "Model FLOP utilisation of a GPU: FLOP/s of the steps over the peak of the card (pipelines/training/flop.py). "
    "Only for SHAN-full with the GRU and hardest negatives.",
    ("run",),
)
CHECKPOINTS = Metric(
    "shan_training_checkpoints_total",
    "counter",
    "checkpoints",
    "Checkpoints that were uploaded and listed, so that a restart resumes from them.",
)
CHECKPOINT_FAILURES = Metric(
    "shan_training_checkpoint_failures_total", "counter", "checkpoints", "Checkpoints whose upload failed."
)
CHECKPOINT_SECONDS = Metric(
    "shan_training_checkpoint_upload_seconds",
    "histogram",
    "seconds",
    "Time of an upload, while training continues. The sum is approximate: Ray counts the middle of each bucket.",
    edges=UPLOAD_SECONDS,
)
CACHE_SHARDS = Metric(
    "shan_training_cache_shards_total",
    "counter",
    "shards",
    "Shards of object storage that a process needed: in the local shard cache (`hit`), or downloaded (`download`).",
    ("result",),
)

INDEX_PLANNED_PHOTOS = Metric(
    "shan_index_photos_planned_total",
    "counter",
    "photos",
    "Photos that index builds had to encode when they started, once for each gallery.",
)
INDEX_ITEMS = Metric(
    "shan_index_items_written_total",
    "counter",
    "items",
    "Items in the partitions that were written: those of `photos`, and of `captions`, of which a photo has several.",
    ("gallery",),
)
INDEX_BYTES = Metric("shan_index_written_bytes_total", "counter", "bytes", "Bytes of these partitions.")
INDEX_ENCODE_SECONDS = Metric(
    "shan_index_encode_seconds_total",
    "counter",
    "seconds",
    "Time that actors took to read, encode and write them. Its rate is the mean number of busy actors.",
)
INDEX_PLAN_PHOTOS = Metric(
    "shan_index_plan_photos",
    "gauge",
    "photos",
    "Photos of the feature sets of a running index build, once for each gallery.",
    ("index",),
)
INDEX_ACCOUNTED_PHOTOS = Metric(
    "shan_index_accounted_photos",
    "gauge",
    "photos",
    "Those in complete partitions, earlier builds included. Candidate searches are built when all are.",
    ("index",),
)

EVALUATED_PAIRS = Metric(
    "shan_evaluation_pairs_total",
    "counter",
    "pairs",
    "Pairs of photos and captions that evaluations and promotions scored, or found in a score cache.",
)

STORE_REQUESTS = Metric(
    "shan_store_requests_total",
    "counter",
    "requests",
    "Requests to an S3 server, each attempt counted, by operation of its API. Those for checkpoints, which Ray Train "
    "makes with Arrow's client, and those of MLflow for artifacts are not included. A store in a folder has none.",
    ("operation",),
)
STORE_RETRIES = Metric(
    "shan_store_retries_total", "counter", "requests", "Those that repeat a failed one.", ("operation",)
)
STORE_ERRORS = Metric(
    "shan_store_errors_total",
    "counter",
    "requests",
    "Those that failed, by kind: `connection`, `timeout`, `throttled` (429, 503), `server` (other 5xx), `denied` "
    "(401, 403) or `other`. A missing object, or one that exists already, is not an error.",
    ("kind",),
)

SERVICE_REQUESTS = Metric(
    "shan_service_requests_total",
    "counter",
    "requests",
    "Requests by path (`other`: one that the service does not have) and HTTP status (499: the client closed the "
    "connection).",
    ("path", "status"),
)
REQUEST_SECONDS = Metric(
    "shan_service_request_seconds", "histogram", "seconds", "Time of a request.", ("path",), SECONDS
)
REQUESTS_IN_PROGRESS = Metric("shan_service_requests_in_progress", "gauge", "requests", "Requests in progress.")
DEADLINE_SECONDS = Metric("shan_service_deadline_seconds", "gauge", "seconds", "`service.deadline_s`.")
QUERIES = Metric(
    "shan_service_queries_total", "counter", "queries", "Searches that had results, by gallery.", ("gallery",)
)
CANDIDATES = Metric(
    "shan_service_candidates_total", "counter", "candidates", "Items that these searches scored exactly, at most."
)
STAGE_SECONDS = Metric(
    "shan_service_stage_seconds",
    "histogram",
    "seconds",
    "Time of a stage of a search: `detect`, `encode`, `candidates`, `rerank` or `explain`, waiting included.",
    ("stage",),
    SECONDS,
)
PARTIAL_RESULTS = Metric(
    "shan_service_partial_results_total", "counter", "queries", "Searches that a share did not respond to in time."
)
WATCH_ERRORS = Metric(
    "shan_service_watch_errors_total",
    "counter",
    "checks",
    "Failed checks of what is served, by class of the exception.",
    ("error",),
)
SERVING = Metric(
    "shan_service_serving", "gauge", "1", "1 for the index and model version that are served.", ("index", "model")
)
CHAMPION_SERVED = Metric(
    "shan_service_champion_served",
    "gauge",
    "1",
    "1 if the champion is served or the service follows none, 0 if another version is.",
)

METRICS = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
"""Every metric."""
