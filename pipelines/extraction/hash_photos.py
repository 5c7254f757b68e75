"""Hashes photos with Ray tasks: a rerun compares the bytes of photos whose version token has changed."""

from hashlib import sha256
from typing import Any

from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, Wait, wait_for_resources
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.manifest import Manifest, Photos
from pipelines.datasets.photo_sources import photo_uri
from pipelines.datasets.read_photos import read_photos
from pipelines.extraction.config import TASK_CPUS
from pipelines.extraction.worker_errors import iter_rows, keep_error_message

_PHOTOS_PER_TASK = 256


def hash_photos(photos: Photos, manifest: Manifest, cluster: ClusterConfig) -> dict[str, str]:
    """Returns the sha256 of photos as they are now, by key; '' for one that cannot be read. Joins or starts Ray."""
    import ray.data

    request = ResourceRequest([{"CPU": TASK_CPUS}], "photos have changed", "add a node with CPUs")
    connect(cluster)
    wait_for_resources(cluster, request)
    rows = [{"key": photo.key, "uri": photo_uri(manifest.root, photo.source)} for photo in photos]
    blocks = -(-len(rows) // _PHOTOS_PER_TASK)
    hashed = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _hash, batch_size=_PHOTOS_PER_TASK, num_cpus=TASK_CPUS
    )
    return {row["key"]: row["sha256"] for row in iter_rows(hashed, Wait(cluster, request))}


@keep_error_message
def _hash(batch: dict[str, Any]) -> dict[str, Any]:
    files = read_photos(batch["uri"].tolist())
    return {
        "key": batch["key"],
        "sha256": ["" if isinstance(data, PhotoError) else sha256(data).hexdigest() for data in files],
    }
