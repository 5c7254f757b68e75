"""The Ray session of a command: an existing cluster, or a local one that this process starts."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.log import is_json, worker_environment
from infra.metrics import export_early_counts
from infra.notice import notice
from infra.paths import exists
from infra.ray_jobs import one_line
from infra.signals import keeping_sigterm
from infra.source_tree import PACKAGES, SOURCE_ROOT

NOTICE_S = 30.0
"""Seconds after which a line states what is waited for; Ray starts in 5 to 20 s, and waits for minutes for itself."""
HEAD_S = 20.0
"""Seconds in which the head of a cluster has to answer."""


@dataclass(frozen=True)
class ClusterConfig:
    """The Ray cluster on which tasks and actors run."""

    address: str = ""
    """Address of a running cluster (`auto`, `host:port`, `ray://host:port`). Empty: that of RAY_ADDRESS, such as the
    cluster that this job was submitted to, or else a local one."""
    local_cpus: int = 4
    """Logical CPUs of a local cluster. May exceed the number of cores, because idle operators keep theirs reserved."""
    local_object_store_mb: int = 800
    """Upper limit of a local cluster's shared memory, in MiB (2^20 bytes). It buffers decoded shards; with too little,
    detectors wait for input (with 300 and shards of 30 MB they lose an eighth of their throughput)."""

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field and the fix."""
        if self.local_cpus < 1:
            raise ValueError(f"cluster.local_cpus is {self.local_cpus}; it must be at least 1")
        if self.local_object_store_mb < 80:
            raise ValueError(f"cluster.local_object_store_mb is {self.local_object_store_mb}; Ray needs at least 80")
        if self.address in ("", "local"):
            return
        for name in ("local_cpus", "local_object_store_mb"):
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"cluster.{name} is {getattr(self, name)}, but has no effect with cluster.address {self.address}; "
                    "omit it"
                )

    @property
    def joined(self) -> str:
        """Address of the cluster that `connect` joins; empty if it starts a local one."""
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        return "" if address == "local" else address

    @property
    def is_local(self) -> bool:
        """Whether `connect` starts a local cluster."""
        return not self.joined


def check_address(config: ClusterConfig) -> None:
    """Raises UserError within HEAD_S if no head responds at the configured address; Ray would retry for minutes."""
    address = config.joined
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"cluster.address is {address}, the URL of a dashboard; give `auto`, host:port or ray://host:port"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"cluster.address {address} is unreachable ({error.strerror or error}); start the cluster or leave it empty"
        ) from error
    if not address.startswith("ray://") and not _has_head(address):  # for a client, Ray has a deadline itself
        raise UserError(
            f"cluster.address {address} is not the head of a Ray cluster: its control store does not answer; give the "
            "address that `ray start --head` prints, usually with port 6379, or ray://host:10001"
        )


def _has_head(address: str) -> bool:
    """Returns whether the control store (GCS) of a cluster answers at an address, be it with a refusal."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
    from ray.exceptions import RayError

    try:
        with init_grpc_channel(address) as channel:
            head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            head.GetClusterId(gcs_service_pb2.GetClusterIdRequest(), timeout=HEAD_S, wait_for_ready=True)
    except grpc.RpcError as error:
        return error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED)
    except (RayError, RuntimeError):  # of the token or the certificates: `ray.init` explains it
        return True
    return True


def connect(config: ClusterConfig, dashboard: bool = False) -> None:
    """Connects to the Ray cluster or starts a local one; does nothing if this process is connected already.

    `dashboard` starts a local cluster's dashboard, on a loopback port; Ray's state API needs it. Raises UserError if
    the cluster is unreachable, or if a local one does not start.
    """
    import ray

    if ray.is_initialized():
        return
    check_address(config)
    options = {
        # Ray's own messages go to its log files; errors, and what this project prints, still reach the terminal.
        "logging_config": ray.LoggingConfig(encoding="JSON" if is_json() else "TEXT", log_level="ERROR"),
        # Workers report through results, errors and progress bars. Ray would print their lines with a prefix.
        "log_to_driver": False,
        "runtime_env": _runtime_env(config),
    }
    with keeping_sigterm():
        if config.is_local:
            _start_local(config, dashboard, options)
        else:
            _join(config, options)
    export_early_counts()
    # Ray Data configures its console on import and would print the log file of every execution, and exceptions that it
    # also raises.
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the log file keeps everything
            handler.addFilter(lambda record: record.levelno >= logging.ERROR and not record.exc_info)


def require_dashboard(reason: str) -> None:
    """Raises UserError unless the head of the connected cluster runs its dashboard, which serves Ray's state API.

    A cluster without a dashboard names a port for it nevertheless, at which another cluster's may respond. `reason`
    states who needs it.
    """
    import ray
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME

    on_head = {"resources": {HEAD_NODE_RESOURCE_NAME: 0.001}, "num_cpus": 0, "max_retries": 0}
    if not ray.get(ray.remote(_finds_its_node).options(**on_head).remote()):
        raise UserError(
            f"the cluster has no dashboard, which {reason}; start its head with `ray start --head "
            "--include-dashboard=true`"
        )


def _finds_its_node() -> bool:
    """Returns whether the dashboard knows the node that this task runs on."""
    import ray
    from ray.util.state import get_node
    from ray.util.state.exception import RayStateApiException

    context = ray.get_runtime_context()
    try:
        return get_node(context.get_node_id(), address=context.gcs_address, timeout=10) is not None
    except (RayStateApiException, OSError, RuntimeError, ValueError):
        return False


def _join(config: ClusterConfig, options: Mapping[str, Any]) -> None:
    import ray
    from ray.exceptions import RayError

    line = f"waiting for cluster.address {config.joined}, which has not accepted this process for {NOTICE_S:.0f} s"
    try:
        with notice(line, NOTICE_S):
            ray.init(address=config.address or None, **options)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise UserError(
            f"cluster.address {config.joined} is unreachable or rejects this process ({one_line(error)}); start "
            "the cluster, use its versions of Python and Ray and its token, or leave the address empty"
        ) from error


def _start_local(config: ClusterConfig, dashboard: bool, options: Mapping[str, Any]) -> None:
    import ray

    _require_absolute_folder()
    # Ray turns token authentication on after the first init; a local cluster needs none.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    line = f"waiting for Ray, which has not started for {NOTICE_S:.0f} s; its logs are below ray/session_latest/logs"
    try:
        with notice(line, NOTICE_S):
            ray.init(
                address="local",  # without it, Ray joins any cluster that runs on this machine
                num_cpus=config.local_cpus,
                object_store_memory=config.local_object_store_mb * 2**20,
                include_dashboard=dashboard,
                **options,
            )
    except Exception as error:
        if not _is_failed_start(error):
            raise
        raise UserError(f"Ray does not start on this machine ({one_line(error)}); {_start_fix(error)}") from error


def _require_absolute_folder() -> None:
    """Raises UserError for a relative temporary folder, with which Ray's processes do not find each other."""
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name, "/tmp")  # noqa: S108 - Ray's default
    if not Path(folder).is_absolute():
        raise UserError(
            f"{name} is {folder!r}, which Ray does not take; set RAY_TMPDIR to the absolute path of a folder that this "
            "user can write"
        )


def _is_failed_start(error: Exception) -> bool:
    """Returns whether Ray raises an error for what a machine lacks, and not for a defect.

    `ray._private.node` and `services` raise `Exception` itself, of no subclass, for processes that do not start in
    time; ValueError for ports, addresses and a socket's path; RuntimeError for files of processes that do not appear.
    """
    from ray.exceptions import RayError

    return type(error) is Exception or isinstance(error, (OSError, ValueError, RuntimeError, RayError))


def _start_fix(error: Exception) -> str:
    """Returns what to do about an error at the start of a local cluster."""
    if isinstance(error, OSError) and error.filename:
        return "set RAY_TMPDIR to a folder that this user can write"
    text = str(error)
    if "AF_UNIX" in text:  # a socket's path has at most 107 bytes
        return "set RAY_TMPDIR to a short path, such as /tmp"
    if "memory" in text or "object store" in text:
        return "lower cluster.local_object_store_mb, or free memory and /dev/shm"
    return "free memory, ports or space for its temporary files (RAY_TMPDIR), or use cluster.address"


def _runtime_env(config: ClusterConfig) -> dict[str, Any] | None:
    """Returns the runtime environment of workers: format and job of their log, and a hook to find the packages.

    Workers of a local cluster inherit the environment of this process.
    """
    variables = {} if config.is_local else worker_environment()
    hook = _import_hook(config)
    found = ({"env_vars": variables} if variables else {}) | ({"worker_process_setup_hook": hook} if hook else {})
    return found or None


def _import_hook(config: ClusterConfig) -> Callable[[], None] | None:
    """Returns a function with which workers find this project's packages; None if they find them anyway.

    Ray puts the driver's current folder first on its workers' module search path. That folder may have packages with
    the names of this project's. Through a Ray client (`ray://`) it does not, nor in a submitted job.
    """
    shadowed = Path.cwd() != SOURCE_ROOT and any(exists(Path.cwd() / name) for name in PACKAGES)
    if not shadowed or config.joined.startswith("ray://"):
        return None
    root, packages = str(SOURCE_ROOT), PACKAGES

    def import_packages() -> None:  # a nested function is pickled by value: workers need not import this module for it
        import importlib
        import sys

        sys.path.insert(0, root)
        for package in packages:
            importlib.import_module(package)

    return import_packages
