"""The Ray session of a job: the cluster it runs on, or a small one inside this process."""

import logging
import os
import socket
from dataclasses import dataclass

from infra.errors import UserError


@dataclass(frozen=True)
class ClusterConfig:
    """Where the job's Ray tasks and actors run."""

    address: str = ""
    """Address of a running cluster (`auto`, `ray://...`). Empty: the cluster this job was submitted to, else local."""
    local_cpus: int = 4
    """Logical CPUs of a local cluster. More than a laptop's cores, because idle stages hold theirs."""
    local_object_store_mb: int = 800
    """Shared memory of a local cluster, MiB; only what is used counts. Decoded shards wait in it: with too little, the
    detectors starve (300 costs them an eighth of their speed at 30 MB a shard)."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        if self.local_cpus < 3:
            raise ValueError(f"cluster.local_cpus is {self.local_cpus}; extraction needs at least 3 logical CPUs")
        if self.local_object_store_mb < 80:
            raise ValueError(f"cluster.local_object_store_mb is {self.local_object_store_mb}; Ray needs at least 80")

    @property
    def is_local(self) -> bool:
        """Whether `connect` would start a cluster inside this process."""
        return not self.address and "RAY_ADDRESS" not in os.environ


def check_address(config: ClusterConfig) -> None:
    """UserError within seconds if the config names a cluster and nothing listens there; Ray would try for minutes."""
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start it or leave cluster.address empty"
        ) from error


def connect(config: ClusterConfig, dashboard: bool = False) -> None:
    """Joins or starts the Ray cluster; does nothing if this process is already in one. UserError if none answers.

    `dashboard` starts one with a local cluster, on a loopback port; Ray's state API needs it.
    """
    import ray

    if ray.is_initialized():
        return
    check_address(config)
    # Ray's chatter about its own workings goes to its log files; errors, and all that our code prints, come through.
    quiet = ray.LoggingConfig(log_level="ERROR")
    if config.is_local:
        _start_local(config, quiet, dashboard)
    else:
        try:
            ray.init(address=config.address or None, logging_config=quiet)
        except (ConnectionError, ValueError) as error:
            address = config.address or os.environ["RAY_ADDRESS"]
            raise UserError(f"no Ray cluster answers at {address}; start one or leave cluster.address empty") from error
    # Ray Data sets up its console on import and would name the log file of every execution.
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        handler.addFilter(lambda record: record.levelno >= logging.ERROR)


def check_gpus(config: ClusterConfig, gpus: float) -> None:
    """UserError if a local cluster lacks GPUs that a process needs: Ray would wait for them in silence.

    Another cluster may grow, so there it is left to Ray.
    """
    import ray

    there = ray.cluster_resources().get("GPU", 0)
    if config.is_local and gpus > there:
        raise UserError(
            f"a process needs {gpus:g} GPUs and this machine gives Ray {there:g}; ask for 0, or use a cluster"
        )


def _start_local(config: ClusterConfig, logging_config: object, dashboard: bool) -> None:
    import ray

    # Token authentication turns itself on after a first init; a cluster inside one process needs none.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        num_cpus=config.local_cpus,
        object_store_memory=config.local_object_store_mb * 2**20,
        include_dashboard=dashboard,
        logging_config=logging_config,
        log_to_driver=False,  # workers report through results, errors and progress bars; their logs are in files
    )
