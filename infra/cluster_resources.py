"""Resources of a Ray cluster: waits, with a message, for those that a job's processes need, or fails if none can come.

Ray itself waits silently and without end for resources that no node has.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import infra.cluster
from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.log import log

Bundle = Mapping[str, float]
"""Resources of one process by Ray's names (`CPU`, `GPU`). A process runs on one node."""
NOTICE_S = 5.0
"""Seconds of waiting after which a line states what is waited for."""
GIVE_UP_S = 30.0
"""Seconds after which a request that nothing can fulfil is an error: nodes may be joining, and an autoscaler needs time
to decide. A local cluster gets no nodes."""
_POLL_S = 1.0
_NODE_TYPE = "ray.io/node-group"
"""Label that Ray gives to the nodes of `ray up` and KubeRay."""


@dataclass(frozen=True)
class ResourceRequest:
    """Processes that have to run at once."""

    bundles: Sequence[Bundle]
    setting: str
    """Their setting, as a part of messages: "train.num_workers is 2"."""
    fix: str
    """What to do if the cluster is too small, as a part of messages."""


def wait_for_resources(cluster: ClusterConfig, request: ResourceRequest) -> None:
    """Returns when the connected cluster has free resources for all processes. Prints and raises as `Wait` does."""
    from ray.util import placement_group, remove_placement_group

    wait = Wait(cluster, request)
    group = placement_group([dict(bundle) for bundle in request.bundles], strategy="PACK")
    try:
        while not group.wait(timeout_seconds=_POLL_S):
            wait.check(lambda: not _autoscaler_refuses(group))
    finally:
        remove_placement_group(group)
    wait.end()


def require_resources(cluster: ClusterConfig, request: ResourceRequest) -> None:
    """Returns if the connected cluster can run all processes, once other jobs have ended. Raises as `Wait` does.

    A cluster with an autoscaler is not checked: what it may add shows only when processes wait for it.
    """
    wait = Wait(cluster, request)
    while not (placeable(request.bundles) or may_scale()):
        wait.check()
        time.sleep(_POLL_S)


def check_resources(cluster: ClusterConfig, requests: Iterable[ResourceRequest]) -> None:
    """Raises UserError, before long work, if the cluster cannot run the processes of one of its later stages.

    CPUs of a local cluster are left to the stage: Ray is not started for them.
    """
    for request in requests:
        if any("GPU" in bundle for bundle in request.bundles):
            infra.cluster.connect(cluster)
            wait_for_resources(cluster, request)
        elif not cluster.is_local:
            infra.cluster.connect(cluster)
            require_resources(cluster, request)


class Wait:
    """A wait for the resources of a request: prints what is waited for, and how long it took."""

    def __init__(self, cluster: ClusterConfig, request: ResourceRequest) -> None:
        self._request = request
        self._deadline_s = 0.0 if cluster.is_local else GIVE_UP_S
        self._start = self._last_hope = time.monotonic()
        self._noticed = False

    def check(self, autoscaler_can_help: Callable[[], bool] = lambda: True) -> None:
        """Called while waiting. Prints a line once, and raises as `require` does."""
        self.require(autoscaler_can_help)
        if time.monotonic() - self._start > NOTICE_S and not self._noticed:
            self._noticed = True
            bundles = describe(self._request.bundles)
            _say(f"waiting for free resources on the cluster: {bundles} ({self._request.setting})")

    def require(self, autoscaler_can_help: Callable[[], bool] = lambda: True) -> None:
        """Raises UserError if neither the nodes nor what an autoscaler may add have sufficed for a while."""
        now, bundles = time.monotonic(), self._request.bundles
        if placeable(bundles) or (may_scale() and autoscaler_can_help()):
            self._last_hope = now
        elif now - self._last_hope > self._deadline_s:
            raise UserError(self._too_small())

    def end(self) -> None:
        """Called when the resources are available."""
        if self._noticed:
            _say(f"the cluster has the resources after {time.monotonic() - self._start:.0f} s")

    def _too_small(self) -> str:
        request = self._request
        names = list(dict.fromkeys(name for bundle in request.bundles for name in bundle))
        nodes = describe([{name: node["Resources"].get(name, 0) for name in names} for node in _nodes()])
        scaling = ", and its autoscaler can add none that suffices" if may_scale() else ""
        return (
            f"{request.setting}, which needs {describe(request.bundles)}, but the cluster has the nodes "
            f"{nodes}{scaling}; {request.fix}"
        )


def placeable(bundles: Sequence[Bundle], groups: int = 1) -> int:
    """Returns how many groups of these processes, up to `groups`, fit on the current nodes, other jobs aside."""
    free = [dict(node["Resources"]) for node in _nodes()]
    for count in range(groups):
        if not all(_place(bundle, free) for bundle in bundles):
            return count
    return groups


def may_scale() -> bool:
    """Returns whether an autoscaler may add nodes: `ray up` or KubeRay has started those that there are."""
    return any(_NODE_TYPE in node.get("Labels", {}) for node in _nodes())


def describe(bundles: Sequence[Bundle]) -> str:
    """Returns bundles as text, such as `2 x (1 CPU, 1 GPU)`."""
    texts = Counter(", ".join(f"{amount:g} {name}" for name, amount in bundle.items()) for bundle in bundles)
    return " and ".join(f"{count} x ({text})" for text, count in texts.items())


def result_of(task: Any, waiting_for: str) -> Any:
    """Returns the result of a Ray task, and prints what it waits for if that takes longer than NOTICE_S."""
    return results_of([task], waiting_for)[0]


def results_of(tasks: list[Any], waiting_for: str) -> list[Any]:
    """Returns the results of Ray tasks, as `result_of` does."""
    import ray

    _, running = ray.wait(tasks, num_returns=len(tasks), timeout=NOTICE_S)
    if running:
        _say(f"waiting for {waiting_for}")
    results: list[Any] = ray.get(tasks)
    return results


def _autoscaler_refuses(group: Any) -> bool:
    """Returns whether the autoscaler reports that no node type within its limits fulfils the placement group.

    Asked from within the cluster, because a client (`ray://`) does not reach the control store.
    """
    import ray

    reported: bool = ray.get(ray.remote(num_cpus=0)(_is_reported_infeasible).remote(group.id.hex()))
    return reported


def _is_reported_infeasible(group: str) -> bool:
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined] # compiled
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    status = GetClusterStatusReply()
    status.ParseFromString(GcsClient(address=ray.get_runtime_context().gcs_address).get_cluster_status())
    infeasible = status.autoscaling_state.infeasible_gang_resource_requests
    return any(group in request.details for request in infeasible)


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _place(bundle: Bundle, free: list[dict[str, float]]) -> bool:
    """Takes a process's resources from the first node that has them. Returns whether one has."""
    for node in free:
        if all(node.get(name, 0) > amount - 1e-6 for name, amount in bundle.items()):
            node.update({name: node.get(name, 0) - amount for name, amount in bundle.items()})
            return True
    return False


def _say(text: str) -> None:
    log.info(text, extra={"event": "waiting"})
