"""Isolates a photo that ends its process: out of memory, a crash in a decoder or detector, or a hang.

Ray retries the work of a dead process without end. The work on a shard is therefore retried photo by photo: the store
notes each photo before work on it begins, so the note of a dead process names the photo that it worked on alone.
After MAX_ATTEMPTS such deaths the photo is rejected.

A lost node or a preemption ends processes as well, but has to meet the same photo MAX_ATTEMPTS times to reject it. The
notes outlive the job, so reruns continue to count. They are deleted when the shard is committed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.canonical_json import canonical_json, load_object
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.features.layout import attempts_name

MAX_ATTEMPTS = 3
"""Processes that die while they work on one photo alone, before it is rejected."""


class Attempts:
    """The attempts of one operator at the photos of one shard: a context around the work on the shard."""

    def __init__(self, store: Store, shard: str, action: str, isolate: bool) -> None:
        self._store, self._shard, self._action = store, shard, action
        self.isolate = isolate
        """Whether to work photo by photo. It also becomes true if an earlier process of this job died at the work."""
        self._deaths: dict[str, int] = {}

    def __enter__(self) -> "Attempts":
        self.isolate = _begin(self._work) or self.isolate
        if self.isolate:
            self._deaths = noted_deaths(self._store, self._shard)
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._work)
        if self.isolate:
            self._save()

    @contextmanager
    def photo(self, key: str, action: str = "") -> Iterator[None]:
        """Encloses the work on one photo. Raises PhotoError instead if too many processes died of it.

        `action` is counted apart from that of the operator.
        """
        action = action or self._action
        attempt = f"{action} {key}"
        deaths = self._deaths.get(attempt, 0)
        if deaths >= MAX_ATTEMPTS:
            raise PhotoError(f"its process died in {deaths} attempts to {action} it")
        if self.isolate:
            self._deaths[attempt] = deaths + 1
            self._save()
        try:
            yield
        finally:  # the process lives, whatever the outcome
            self._deaths.pop(attempt, None)

    @property
    def _work(self) -> str:
        return f"{self._action} {self._store.uri}/{self._shard}"

    def _save(self) -> None:
        self._store.replace(attempts_name(self._shard), canonical_json(self._deaths))


def noted_deaths(store: Store, shard: str) -> dict[str, int]:
    """Returns the number of ended processes by action and photo key; empty without valid notes."""
    try:
        return {attempt: int(deaths) for attempt, deaths in load_object(store.read(attempts_name(shard))).items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _begin(work: str) -> bool:
    """Notes in the Ray cluster that this job starts some work. Returns whether it did so before: a process died."""
    import ray

    if not ray.is_initialized():
        return False
    from ray.experimental.internal_kv import _internal_kv_put

    return bool(_internal_kv_put(_cluster_key(work), b"", overwrite=False))


def _end(work: str) -> None:
    import ray

    if ray.is_initialized():
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(_cluster_key(work))


def _cluster_key(work: str) -> str:
    import ray

    return f"shan-line/{ray.get_runtime_context().get_job_id()}/{work}"
