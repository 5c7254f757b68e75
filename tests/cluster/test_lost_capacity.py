"""A cluster loses the only node that can run a detector: extraction and index build end with one line."""

import os
import subprocess
import sys

import pytest

from tests.support.clusters import ENVIRONMENT, local_cluster
from tests.support.processes import ROOT, wait_until

READ_ROWS = """
import sys
import time

import ray.data

from infra import cluster_resources
from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, Wait
from jobs import cli
from pipelines.extraction import worker_errors

cluster_resources.GIVE_UP_S = 4.0
worker_errors.CHECK_S = 0.5
cluster = ClusterConfig(address=sys.argv[1])

class Slow:
    def __call__(self, row):
        time.sleep(1)
        return row

def main():
    connect(cluster)
    request = ResourceRequest([{"CPU": 1.0}], "extract.detector_cpus is 1", "use a larger cluster")
    actors = ray.data.ActorPoolStrategy(size=1)
    rows = ray.data.range(999, override_num_blocks=999).map(Slow, compute=actors, num_cpus=1)
    for row in worker_errors.iter_rows(rows, Wait(cluster, request)):
        print("row", flush=True)

cli.run(main)
"""


@pytest.mark.long
def test_a_cluster_that_cannot_continue_is_an_error():
    with local_cluster(0) as cluster:
        node = cluster.add_node(1)
        command = [sys.executable, "-c", READ_ROWS, cluster.address]
        job = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert job.stdout
        wait_until(lambda: job.stdout.readline() == "row\n")
        cluster.lose(node)
        _, errors = job.communicate(timeout=120)
    assert job.returncode == 2, errors
    assert errors.splitlines()[-1] == (
        "error: extract.detector_cpus is 1, which needs 1 x (1 CPU), but the cluster has the nodes 1 x (0 CPU); "
        "use a larger cluster"
    )
