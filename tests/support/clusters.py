"""A Ray cluster of several nodes on this machine. Each node is a tree of processes that can be killed."""

import json
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
from tests.support.processes import ROOT, children, command_line, wait_during, wait_until
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
    head: "subprocess.Popen[bytes] | None" = None
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    """`ray start` processes of the nodes beside the head, in the order in which they were added."""
    hosts: dict[int, Host] = field(default_factory=dict)
    """The host of each node, by the id of its process."""

    def add_node(self, cpus: int, host: Host = LOOPBACK) -> "subprocess.Popen[bytes]":
        """Starts a node and waits until it has joined the cluster. Returns its `ray start` process."""
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

    def train_logged(self, text: str) -> bool:
        """Returns whether Ray Train has logged a text on one of the nodes."""
        return any(text in log.read_text(errors="replace") for log in self.folder.rglob("logs/train/*.log"))

    def start(self, *arguments: str, host: Host) -> "subprocess.Popen[bytes]":
        """Runs `ray start --block` and waits until it has started. Free ports, as another Ray may run on this machine.

        Raises AssertionError with its output if it ends instead.
        """
        (agent,) = free_ports(1)
        folder = Path(tempfile.mkdtemp(dir=self.folder))  # nodes with one folder would take the same socket
        command = [*host.enter, str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [f"--object-store-memory={OBJECT_STORE}", f"--node-ip-address={host.address}"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]  # nodes with one range race for its ports
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}", *arguments]
        log = folder / "ray-start.log"
        with log.open("ab") as output:
            node = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(self.environment)
            )
        try:
            wait_during(node, log, lambda: "Ray runtime started." in log.read_text(errors="replace"), every_s=0.1)
        except BaseException:
            kill_tree(node)
            raise
        return node


HEAD_ID = "f" * 51 + "00000"
"""Node id that Ray's provider for tests gives to the head."""
AUTOSCALER = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_FAKE_CLUSTER": "1",
    "RAY_NODE_TYPE_NAME": "ray.head.default",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "RAY_enable_autoscaler_v2": "1",
}
"""Variables of a head whose autoscaler starts nodes as processes of this machine, and updates every second."""


_LISTS = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""Fields that Ray's schema of an autoscaler requires."""


def autoscaling_config(head_cpus: int, gcs_address: str, node_types: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the config file of such an autoscaler: at most two nodes of each type, given by its resources."""
    types = {
        name: {"resources": dict(resources), "node_config": {}, "min_workers": 0, "max_workers": 2}
        for name, resources in node_types.items()
    }
    head = {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0}
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": gcs_address,
        "head_node_id": HEAD_ID,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "use_node_id_as_ip": True,
    }
    config = {
        "cluster_name": "test",
        "provider": provider,
        "max_workers": 8,
        "available_node_types": {"ray.head.default": head, **types},
        "head_node_type": "ray.head.default",
        **{name: [] for name in _LISTS},
        "auth": {},
        "file_mounts": {},
    }
    return json.dumps(config)


@contextmanager
def local_cluster(
    head_cpus: int,
    host: Host = LOOPBACK,
    environment: Mapping[str, str] = ENVIRONMENT,
    dashboard: bool = False,
    node_types: Mapping[str, Mapping[str, float]] | None = None,
) -> Iterator[LocalCluster]:
    """Starts a head with that many CPUs, and its dashboard if wanted. All nodes end with the block.

    With `node_types`, resources by name, the head has an autoscaler that starts nodes of these types.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets below it must have short paths
    port, dashboard_port = free_ports(2)
    if node_types is not None:
        environment = {**environment, **AUTOSCALER}
    cluster = LocalCluster(f"{host.address}:{port}", folder, environment, f"http://{host.address}:{dashboard_port}")
    arguments = ["--head", f"--port={port}", f"--num-cpus={head_cpus}"]
    if node_types is not None:
        config = folder / "autoscaling.json"
        config.write_text(autoscaling_config(head_cpus, cluster.address, node_types))
        arguments.append(f"--autoscaling-config={config}")
    options = [f"--dashboard-host={host.address}", f"--dashboard-port={dashboard_port}"] if dashboard else []
    head = cluster.start(*arguments, f"--include-dashboard={str(dashboard).lower()}", *options, host=host)
    cluster.head = head
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
