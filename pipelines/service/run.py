"""The work of `jobs.serve`: starts Ray Serve and the service, waits until it serves, and stops it."""

import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from os import environ
from typing import Any

from infra.cluster import ClusterConfig, check_address, connect
from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.service.config import ServiceConfig
from pipelines.service.follower import START_S
from pipelines.service.generation import SERVICE, gallery_number
from pipelines.service.router import TOKEN, require_token
from pipelines.service.wanted import wanted


def require_serve() -> None:
    """Raises UserError if Ray Serve is not installed."""
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the service needs Ray Serve, which cannot be imported ({error}); install it with pip install "
            "'shan-line[serve]'"
        ) from error


@contextmanager
def running_service(
    index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig, cluster: ClusterConfig
) -> Iterator[str]:
    """Serves an index during the body and yields the URL. Raises UserError, with the fix, if it cannot start."""
    require_serve()
    require_token(config, environ.get(TOKEN, ""))
    check_address(cluster)
    found = wanted(index, pin, tracking)
    if found.problem:
        print(f"warning: {found.problem}", file=sys.stderr)
    if cluster.is_local:
        _require_free_port(config)
    import ray

    is_own_cluster = cluster.is_local and not ray.is_initialized()
    # A new gallery starts while the present one still serves.
    connect(replace(cluster, local_cpus=max(cluster.local_cpus, ceil(2 * config.gallery_cpus))))
    from ray import serve

    from pipelines.service.deployments import service_application

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    http = {"host": config.host, "port": config.port, "request_timeout_s": 2 * config.deadline_s + 5}
    try:
        serve.start(http_options=http, logging_config={"log_level": "WARNING", "enable_access_log": False})
        serve.run(service_application(index, pin, config, tracking), name=SERVICE, route_prefix="/")
        _wait_until_served()
        yield f"http://{config.host}:{config.port}"
    finally:
        if is_own_cluster:
            ray.shutdown()
        else:
            _delete_applications()


def serve_forever(
    index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig, cluster: ClusterConfig
) -> None:
    """Serves an index until the process is interrupted."""
    with running_service(index, pin, config, tracking, cluster) as url:
        print(f"{index} is served at {url} (paths: {url}/docs)", flush=True)
        while True:
            time.sleep(1)


def _wait_until_served() -> None:
    """Waits until a gallery runs. Raises UserError with the reason why it does not start."""
    from ray import serve

    follower: Any = serve.get_deployment_handle("follower", SERVICE)
    give_up = time.monotonic() + START_S
    while True:
        states = {name: found.status.value for name, found in serve.status().applications.items()}
        if any(state == "RUNNING" for name, state in states.items() if gallery_number(name) is not None):
            return
        failure = follower.state.remote().result()["failure"]
        if failure or time.monotonic() > give_up:
            raise UserError(f"the service does not start: {failure or f'no index is opened after {START_S:.0f} s'}")
        time.sleep(0.5)


def _delete_applications() -> None:
    """Stops the service; other applications of the cluster's Ray Serve stay."""
    from ray import serve

    names = list(serve.status().applications)
    for name in (SERVICE, *filter(gallery_number, names)):  # the follower first: it would start a gallery again
        if name in names:
            serve.delete(name, _blocking=False)  # a stopped job has three seconds


def _require_free_port(config: ServiceConfig) -> None:
    try:
        with socket.create_server((config.host, config.port)):
            return
    except OSError as error:
        raise UserError(
            f"service.port {config.port} of service.host {config.host} cannot be used ({error.strerror or error}); "
            "choose another"
        ) from error
