"""A Ray cluster of several nodes on this machine. Each node is a tree of processes that can be killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hosts import LOOPBACK, Host
from tests.support.processes import ROOT, children, command_line, wait_until
from tests.support.servers import free_ports

OBJECT_STORE = 100 << 20

ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a submitted job's `python` is the one of the node
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_USAGE_STATS_ENABLED": "0",
}

DRAIN = """
import sys, time
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.core.generated.gcs_pb2 import GcsNodeInfo
client = GcsClient(address=sys.argv[1])
nodes = client.get_all_node_info().items()
(node,) = [key.hex() for key, node in nodes if node.state == GcsNodeInfo.ALIVE and not node.is_head_node]
reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
deadline_ms = int((time.time() + float(sys.argv[2])) * 1000)
accepted, message = client.drain_node(node, reason, "spot", deadline_ms)
sys.exit(0 if accepted else message)
"""
"""What `ray drain-node` does, for the node whose id is looked up. It runs with the environment of the cluster."""


@dataclass
class LocalCluster:
    """A running head, to which nodes are added and from which they are lost."""

    address: str
    folder: Path
    environment: Mapping[str, str]
    dashboard: str
    """URL of the head's dashboard, which accepts jobs."""
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    """`ray start` processes of the nodes beside the head, in the order in which they were added."""
    hosts: dict[int, Host] = field(default_factory=dict)
    """The host of each node, by the id of its process."""

    def add_node(self, cpus: int, host: Host = LOOPBACK) -> "subprocess.Popen[bytes]":
        """Starts a node. It joins the cluster some seconds later. Returns its `ray start` process."""
        node = self.start(f"--address={self.address}", f"--num-cpus={cpus}", host=host)
        self.nodes.append(node)
        self.hosts[node.pid] = host
        return node

    def node_running(self, title: str) -> "subprocess.Popen[bytes]":
        """Returns a live node with a worker whose task or actor has that name."""
        for node in self.nodes:
            if node.poll() is None and any(title in command_line(pid) for pid in tree(node.pid)):
                return node
        raise AssertionError(f"no node runs {title}")

    def lose(self, node: "subprocess.Popen[bytes]") -> None:
        """Sends SIGKILL to every process of a node, as if its power had failed."""
        kill_tree(node)

    def drain(self, seconds: int) -> None:
        """Announces that the only node beside the head will be taken away, as clouds do with spot VMs."""
        command = [sys.executable, "-c", DRAIN, self.address, str(seconds)]
        environment = os.environ | dict(self.environment)
        drained = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert drained.returncode == 0, drained.stderr

    def start(self, *arguments: str, host: Host) -> "subprocess.Popen[bytes]":
        """Runs `ray start --block` on free ports, since another Ray may run on this machine."""
        (agent,) = free_ports(1)
        folder = Path(tempfile.mkdtemp(dir=self.folder))  # nodes with one folder would take the same socket
        command = [*host.enter, str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [f"--object-store-memory={OBJECT_STORE}", f"--node-ip-address={host.address}"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}", *arguments]
        with (self.folder / "ray.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | dict(self.environment)
            )


@contextmanager
def local_cluster(
    head_cpus: int, host: Host = LOOPBACK, environment: Mapping[str, str] = ENVIRONMENT, dashboard: bool = False
) -> Iterator[LocalCluster]:
    """Starts a head with that many CPUs, and its dashboard if wanted. All nodes end with the block."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets below it must have short paths
    port, dashboard_port = free_ports(2)
    cluster = LocalCluster(f"{host.address}:{port}", folder, environment, f"http://{host.address}:{dashboard_port}")
    arguments = ["--head", f"--port={port}", f"--num-cpus={head_cpus}"]
    options = [f"--dashboard-host={host.address}", f"--dashboard-port={dashboard_port}"] if dashboard else []
    head = cluster.start(*arguments, f"--include-dashboard={str(dashboard).lower()}", *options, host=host)
    try:
        for needed in (port, dashboard_port) if dashboard else (port,):
            wait_until(lambda needed=needed: _listens(host.address, needed), timeout_s=60, every_s=0.2)  # type: ignore[misc]
        yield cluster
    finally:
        for node in [*cluster.nodes, head]:
            cluster.lose(node)
        shutil.rmtree(folder, ignore_errors=True)


def _listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def tree(pid: int) -> list[int]:
    """Returns the ids of all processes that a process has started, directly or not."""
    found = list(children(pid))
    return found + [deeper for child in found for deeper in tree(child)]


def kill_tree(process: "subprocess.Popen[Any]") -> None:
    """Sends SIGKILL to a process that still runs and to all that it has started, and waits for it."""
    if process.poll() is not None:
        return
    for pid in [*tree(process.pid), process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
