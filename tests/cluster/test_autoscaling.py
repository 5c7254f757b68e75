"""Waits for resources on a real cluster with an autoscaler: it starts a node, or has no type of node that suffices."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.clusters import ENVIRONMENT, LocalCluster, local_cluster
from tests.support.processes import ROOT

OBJECT_STORE = 80 << 20

WAIT = """
import sys
from infra import cluster_resources
from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, may_scale, placeable, wait_for_resources
from jobs import cli

cluster_resources.GIVE_UP_S = 4.0
cluster = ClusterConfig(address=sys.argv[1])

def main():
    connect(cluster)
    worker = {"CPU": 1.0, "GPU": float(sys.argv[2])}
    print(may_scale(), placeable([worker]))
    wait_for_resources(cluster, ResourceRequest([worker] * 2, "train.num_workers is 2", "lower train.num_workers"))
    print(may_scale(), placeable([worker] * 2))

cli.run(main)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """An idle head without free CPUs; its autoscaler may start two nodes with a GPU each."""
    node_types = {"gpu": {"CPU": 2, "GPU": 1, "object_store_memory": OBJECT_STORE}}
    with local_cluster(0, node_types=node_types) as running:
        yield running


def wait(cluster: LocalCluster, gpus: int) -> "subprocess.CompletedProcess[str]":
    """Waits for two workers with `gpus` GPUs each, as a training does."""
    command = [sys.executable, "-c", WAIT, cluster.address, str(gpus)]
    environment = os.environ | ENVIRONMENT
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150, check=False)


def printed(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Returns the lines that WAIT prints, without those of Ray's autoscaler."""
    return [line for line in done.stdout.splitlines() if line.startswith("True")]


@pytest.mark.long
def test_unfulfillable_resource_request_is_an_error(cluster: LocalCluster):
    done = wait(cluster, gpus=2)
    assert (done.returncode, printed(done)) == (2, ["True 0"]), done.stderr
    said = re.escape("error: train.num_workers is 2, which needs 2 x (1 CPU, 2 GPU), but the cluster has the nodes ")
    assert re.search(
        f"^{said}.*, and its autoscaler can add none that suffices; lower train.num_workers$", done.stderr, re.M
    )


def test_wait_ends_after_autoscaler_adds_nodes(cluster: LocalCluster):
    done = wait(cluster, gpus=1)
    assert (done.returncode, printed(done)) == (0, ["True 0", "True 1"]), done.stderr
