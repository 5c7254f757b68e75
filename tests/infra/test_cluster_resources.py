"""What fits on a cluster, and the messages and the end of a wait for it.

Waits on real clusters: `tests/pipelines` (a local one) and `tests/cluster/test_autoscaling.py`.
"""

from typing import Any

import pytest

from infra import cluster_resources
from infra.cluster import ClusterConfig
from infra.cluster_resources import (
    ResourceRequest,
    Wait,
    check_resources,
    describe,
    may_scale,
    placeable,
    require_resources,
    results_of,
)
from infra.errors import UserError

WORKER = {"CPU": 2.0, "GPU": 1.0}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The nodes that Ray reports; tests change the list."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.nodes", lambda: found)
    return found


def node(alive: bool = True, labels: dict[str, str] | None = None, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Labels": labels or {}, "Resources": {"memory": 1e9, **resources}}


def test_a_process_runs_on_one_node(nodes: list[dict[str, Any]]):
    nodes += [node(CPU=3.0, GPU=1.0), node(CPU=3.0, GPU=1.0), node(CPU=0.0), node(alive=False, CPU=64.0, GPU=8.0)]
    assert placeable([WORKER]) == 1
    assert placeable([WORKER] * 2) == 1
    assert placeable([WORKER] * 3) == 0
    assert placeable([{"CPU": 4.0}]) == 0  # 6 CPUs in all, but no node has 4
    assert placeable([{"CPU": 1.0}], groups=9) == 6
    assert placeable([WORKER, {"CPU": 0.5}], groups=9) == 2
    assert placeable([{"CPU": 0.1}], groups=99) == 60  # although 0.1 + 0.1 + ... is not exact


def test_ray_is_not_started_to_check_cpus_of_a_local_cluster(monkeypatch: pytest.MonkeyPatch):
    connected: list[ClusterConfig] = []
    monkeypatch.setattr("infra.cluster.connect", connected.append)
    monkeypatch.setattr(cluster_resources, "require_resources", lambda *_: None)
    request = ResourceRequest([{"CPU": 64.0}], "train.num_workers is 64", "lower it")
    check_resources(ClusterConfig(address="local"), [request])
    assert not connected
    check_resources(ClusterConfig(address="auto"), [request])
    assert connected == [ClusterConfig(address="auto")]


def test_nodes_with_a_node_type_belong_to_an_autoscaler(nodes: list[dict[str, Any]]):
    nodes.append(node(CPU=4.0))
    assert not may_scale()
    nodes.append(node(CPU=0.0, labels={"ray.io/node-group": "head"}))
    assert may_scale()


def test_bundles_are_described_by_their_number():
    assert describe([WORKER, WORKER, {"CPU": 0.5}]) == "2 x (2 CPU, 1 GPU) and 1 x (0.5 CPU)"


@pytest.fixture
def request_() -> ResourceRequest:
    return ResourceRequest([WORKER] * 2, "train.num_workers is 2, with train.use_gpu", "lower train.num_workers")


def test_a_local_cluster_that_is_too_small_is_an_error(
    nodes: list[dict[str, Any]], request_: ResourceRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    nodes.append(node(CPU=4.0, GPU=1.0))
    message = (
        r"^train\.num_workers is 2, with train\.use_gpu, which needs 2 x \(2 CPU, 1 GPU\), but the cluster has the "
        r"nodes 1 x \(4 CPU, 1 GPU\); lower train\.num_workers$"
    )
    with pytest.raises(UserError, match=message):
        Wait(ClusterConfig(), request_).check()


@pytest.mark.parametrize("scales", [False, True])
def test_a_cluster_that_stays_too_small_is_an_error(
    nodes: list[dict[str, Any]], request_: ResourceRequest, monkeypatch: pytest.MonkeyPatch, scales: bool
):
    """Nodes may be joining, and an autoscaler may not have decided yet, so the error comes after GIVE_UP_S."""
    nodes.append(node(CPU=4.0, labels={"ray.io/node-group": "head"} if scales else None))
    wait = Wait(ClusterConfig(address="auto"), request_)
    wait.check(lambda: False)
    monkeypatch.setattr(wait, "_deadline_s", 0.0)
    if scales:
        wait.check(lambda: True)
    with pytest.raises(UserError, match="autoscaler can add none" if scales else r"nodes 1 x \(4 CPU, 0 GPU\);"):
        wait.check(lambda: False)


def test_a_long_wait_prints_its_cause_and_duration_once(
    nodes: list[dict[str, Any]],
    request_: ResourceRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    nodes.append(node(CPU=4.0, GPU=2.0))
    wait = Wait(ClusterConfig(), request_)
    wait.check()
    wait.end()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cluster_resources, "NOTICE_S", 0.0)
    wait.check()
    wait.check()
    wait.end()
    assert capsys.readouterr().err == (
        "waiting for free resources on the cluster: 2 x (2 CPU, 1 GPU) (train.num_workers is 2, with train.use_gpu)\n"
        "the cluster has the resources after 0 s\n"
    )


def test_what_a_cluster_can_never_run_is_an_error(
    nodes: list[dict[str, Any]], request_: ResourceRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster_resources, "GIVE_UP_S", -1.0)
    nodes.append(node(CPU=4.0))
    with pytest.raises(UserError, match=r"^train\.num_workers is 2, .* but the cluster has the nodes 1 x"):
        require_resources(ClusterConfig(address="auto"), request_)
    nodes.append(node(CPU=4.0, GPU=2.0))
    require_resources(ClusterConfig(address="auto"), request_)
    nodes[:] = [node(CPU=0.0, labels={"ray.io/node-group": "head"})]
    require_resources(ClusterConfig(address="auto"), request_)


def test_tasks_that_take_long_are_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    running: list[int] = []
    monkeypatch.setattr("ray.wait", lambda tasks, num_returns, timeout: (tasks, running[:num_returns]))
    monkeypatch.setattr("ray.get", lambda tasks: [task * 10 for task in tasks])
    assert results_of([1, 2, 3], "the lists") == [10, 20, 30]
    assert capsys.readouterr().err == ""
    running.append(3)
    assert results_of([1, 2, 3], "the lists") == [10, 20, 30]
    assert capsys.readouterr().err == "waiting for the lists\n"
