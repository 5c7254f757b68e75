"""The work of `jobs.serve`: starts Ray Serve and the service, waits until it serves, and stops it."""

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from os import environ
from typing import Any

from infra.cluster import ClusterConfig, check_address, connect
from infra.cluster_resources import NOTICE_S, ResourceRequest, wait_for_resources
from infra.errors import UserError
from infra.log import event, is_json, log
from infra.paths import absolute
from infra.storage.process_folder import remove_left_folders
from infra.tracking import TrackingConfig
from pipelines.models.load import is_registered
from pipelines.service.config import ServiceConfig
from pipelines.service.follower import START_S, error_line
from pipelines.service.generation import FOLDERS, FOLLOWER, SERVICE, Generation, galleries, gallery_number
from pipelines.service.router import TOKEN, require_token
from pipelines.service.running_serve import RESPONSE_S, require_usable_serve
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
    require_token(config.host, environ.get(TOKEN, ""))
    check_address(cluster)
    index = absolute(index, "--index")
    found = wanted(index, pin, tracking)
    if cluster.is_local:
        _require_free_port(config)
    import ray

    is_own_cluster = cluster.is_local and not ray.is_initialized()
    if cluster.is_local:  # a new gallery starts while the present one still serves
        cluster = replace(cluster, local_cpus=max(cluster.local_cpus, ceil(2 * config.gallery_cpus)))
    connect(cluster)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if not require_usable_serve(config, index):
        wait_for_resources(cluster, gallery_resources(found.generation, config))
    with _stopped_at_end(is_own_cluster):
        _deploy(index, pin, config, tracking)
        _wait_until_served()
        yield url_of(config)


def serve_forever(
    index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig, cluster: ClusterConfig
) -> None:
    """Serves an index until the process is interrupted."""
    with running_service(index, pin, config, tracking, cluster) as url:
        event("service_started", f"{index} is served at {url}", index=index, url=url)
        print(f"{index} is served at {url} (search page; API: {url}/openapi.json)", flush=True)
        shown = ""
        while True:
            shown = report_problem(_follower_state(), shown)
            time.sleep(config.follow_every_s)


def report_problem(state: Mapping[str, str], shown: str) -> str:
    """Prints why the champion is not served, with the fix, if the follower's state has another reason than `shown`.

    Returns the reason that was shown last; "" once the champion is served.
    """
    problem = state.get("problem", shown)
    if problem not in ("", shown):
        log.warning(problem)
    return problem


def url_of(config: ServiceConfig) -> str:
    """Returns the URL of the service."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{config.port}"


def gallery_resources(generation: Generation, config: ServiceConfig) -> ResourceRequest:
    """Returns the processes of a gallery, for which the cluster needs room."""
    detectors = config.num_detectors if is_registered(generation.model) else 0
    bundle = {"CPU": config.cpus} | ({"GPU": config.gpus} if config.gpus else {})
    setting = (
        f"service.num_shares is {config.num_shares}, service.num_replicas is {config.num_replicas} and "
        f"service.num_detectors is {config.num_detectors}"
    )
    fix = "lower them, service.cpus or service.gpus, or use a larger cluster (cluster.address)"
    return ResourceRequest([bundle] * (config.num_shares * config.num_replicas + detectors), setting, fix)


def _deploy(index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig) -> None:
    """Starts Ray Serve and the service. Raises UserError with the reason why they do not start."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from pipelines.service.deployments import service_application

    http = {"host": config.host, "port": config.port, "request_timeout_s": 2 * config.deadline_s + 5}
    try:
        serve.start(proxy_location=config.proxy_location, http_options=http, logging_config=_logging_config())
        serve.run(service_application(index, pin, config, tracking), name=SERVICE, route_prefix="/")
    except (RuntimeError, TimeoutError, RayError, RayServeException) as error:
        raise UserError(f"the service does not start: {error_line(str(error)) or type(error).__name__}") from error


def _logging_config() -> dict[str, Any]:
    """Returns the settings of Ray Serve's logs. The service's own events (`events`) are in them at any level."""
    return {"encoding": "JSON" if is_json() else "TEXT", "log_level": "WARNING", "enable_access_log": False}


def _wait_until_served() -> None:
    """Waits until a gallery runs, and prints that. Raises UserError with the reason why it does not start."""
    from ray import serve

    start, is_noticed = time.monotonic(), False
    while True:
        applications = serve.status().applications
        names = galleries({name: found.status.value for name, found in applications.items()})
        if any(applications[name].status.value == "RUNNING" for name in names):
            return
        failure, waited = _follower_state().get("failure", ""), time.monotonic() - start
        if not failure and waited > START_S:
            reasons = [found.message for name in names[:1] for found in applications[name].deployments.values()]
            failure = f"no index is opened after {START_S:.0f} s ({error_line(chr(10).join(reasons))})"
        if failure:
            raise UserError(f"the service does not start: {failure}")
        if waited > NOTICE_S and not is_noticed:
            log.info("waiting for the processes that open the index", extra={"event": "waiting"})
            is_noticed = True
        time.sleep(0.5)


def _follower_state() -> dict[str, str]:
    """Returns the state of the follower (`Follower.state`); nothing if it does not respond."""
    from ray import serve

    try:
        follower: Any = serve.get_deployment_handle(FOLLOWER, SERVICE)
        return dict(follower.state.remote().result(timeout_s=RESPONSE_S))
    except Exception:  # noqa: BLE001 - it or Serve's controller is restarting, for which Ray has many types
        return {}


@contextmanager
def _stopped_at_end(is_own_cluster: bool) -> Iterator[None]:
    """Stops this process's own cluster at the end of the body, or the service of another one.

    A failure to do so is a warning: the error of the body is the one to report.
    """
    import ray

    try:
        yield
    finally:
        try:
            if is_own_cluster:
                ray.shutdown()  # kills the processes of the service
                remove_left_folders(FOLDERS)
            else:
                _delete_applications()
        except Exception as error:  # noqa: BLE001 - Ray and Serve raise their own types where the cluster is gone
            reason = error_line(str(error)) or type(error).__name__
            log.warning("the service could not be stopped (%s); run `serve shutdown`", reason)


def _delete_applications() -> None:
    """Stops the service; other applications of the cluster's Ray Serve stay."""
    from ray import serve

    names = list(serve.status().applications)
    for name in (SERVICE, *filter(gallery_number, names)):  # the follower first: it would start a gallery again
        if name in names:
            serve.delete(name, _blocking=False)  # a stopped job has three seconds


def _require_free_port(config: ServiceConfig) -> None:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        with socket.create_server((config.host, config.port), family=family):
            return
    except OSError as error:
        raise UserError(
            f"service.port {config.port} of service.host {config.host} cannot be used ({error.strerror or error}); "
            "choose another"
        ) from error
