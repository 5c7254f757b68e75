"""A Ray cluster of several nodes on this machine, each node a tree of processes of its own that can be killed."""

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

from tests.support.hosts import LOOPBACK, Host
from tests.support.processes import ROOT, children, wait_until
from tests.support.servers import free_ports

OBJECT_STORE = 100 << 20

ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a submitted job's `python` is the one of the node
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass
class LocalCluster:
    """A running head; nodes are added to it and lost."""

    address: str
    folder: Path
    environment: Mapping[str, str]
    dashboard: str
    """URL of the head's dashboard, which takes orders."""
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def add_node(self, cpus: int, host: Host = LOOPBACK) -> "subprocess.Popen[bytes]":
        """A node that has joined when a job can use it."""
        node = self.start(f"--address={self.address}", f"--num-cpus={cpus}", host=host)
        self.nodes.append(node)
        return node

    def lose(self, node: "subprocess.Popen[bytes]") -> None:
        """SIGKILL to every process of a node, its workers first asked for: as if its power had gone."""
        for pid in [*tree(node.pid), node.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def worker_id(self) -> str:
        """Ray's id of the node beside the head."""
        ask = (
            f"import ray; ray.init({self.address!r}, log_to_driver=False); n = ray.nodes();"
            "print(next(x['NodeID'] for x in n if x['Alive'] and not x['Resources'].get('node:__internal_head__')))"
        )
        environment = os.environ | ENVIRONMENT
        found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
        return found.stdout.split()[-1]

    def drain(self, node_id: str, seconds: int) -> None:
        """Tells Ray that the node will go, as clouds do before they reclaim a spot machine."""
        command = [str(Path(sys.executable).with_name("ray")), "drain-node", f"--address={self.address}"]
        command += [f"--node-id={node_id}", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message=spot", f"--deadline-remaining-seconds={seconds}"]
        subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, check=True)

    def start(self, *arguments: str, host: Host) -> "subprocess.Popen[bytes]":
        """`ray start --block`. Ports that Ray would not choose itself are free ones: another Ray may run here."""
        (agent,) = free_ports(1)
        place = Path(tempfile.mkdtemp(dir=self.folder))  # shared, two that start at once take the same socket
        command = [*host.enter, str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [f"--object-store-memory={OBJECT_STORE}", f"--node-ip-address={host.address}"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={place}", *arguments]
        with (self.folder / "ray.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | dict(self.environment)
            )


@contextmanager
def local_cluster(
    head_cpus: int, host: Host = LOOPBACK, environment: Mapping[str, str] = ENVIRONMENT, dashboard: bool = False
) -> Iterator[LocalCluster]:
    """A head with that many CPUs, with its dashboard if wanted; everything ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets below it must have short paths
    port, dashboard_port = free_ports(2)
    cluster = LocalCluster(f"{host.address}:{port}", folder, environment, f"http://{host.address}:{dashboard_port}")
    arguments = ["--head", f"--port={port}", f"--num-cpus={head_cpus}"]
    options = [f"--dashboard-host={host.address}", f"--dashboard-port={dashboard_port}"] if dashboard else []
    head = cluster.start(*arguments, f"--include-dashboard={str(dashboard).lower()}", *options, host=host)
    try:
        for needed in (port, dashboard_port) if dashboard else (port,):
            wait_until(lambda needed=needed: _listens(host.address, needed), patience_s=60, every_s=0.2)  # type: ignore[misc]
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
    """Ids of all that a process has started, and what that has."""
    found = list(children(pid))
    return found + [deeper for child in found for deeper in tree(child)]
