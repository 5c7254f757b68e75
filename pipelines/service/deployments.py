"""The Ray Serve applications: one of the router and the follower, and one for each gallery."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ray import serve

from infra.canonical_json import canonical_json
from infra.paths import absolute
from infra.tracking import TrackingConfig
from pipelines.models.load import is_registered
from pipelines.service.config import ServiceConfig
from pipelines.service.detector import PhotoDetector
from pipelines.service.follower import Follower
from pipelines.service.generation import DETECTOR, FOLLOWER, ROUTER, SHARE, Generation
from pipelines.service.router import Router
from pipelines.service.share import Share
from pipelines.service.wanted import Wanted, wanted

DRAIN_S = 3.0
"""Seconds in which every router finds a new gallery, beside the deadline of a request."""
ONGOING_REQUESTS = 4
"""Requests in progress in each process of a share above which another process is started. A process computes one at a
time, so a request waits for three others."""
_HEALTH = {"health_check_period_s": 2, "health_check_timeout_s": 30, "graceful_shutdown_wait_loop_s": 0.2}


def service_application(
    index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig
) -> serve.Application:
    """Returns the application of the router and the follower, which deploys the gallery.

    `index` becomes absolute, because other processes open it.
    """
    index = absolute(index, "--index")
    find = partial(wanted_with_settings, index, pin, config, tracking)
    follower = _deployment(Follower, FOLLOWER, num_cpus=0).bind(
        index, find, ServeApplications(config, tracking), config.follow_every_s, config.deadline_s + DRAIN_S
    )
    router = _deployment(serve.ingress()(Router), ROUTER, num_cpus=0, max_ongoing_requests=10 * config.max_requests)
    return router.bind(config, follower)


def wanted_with_settings(index: str, pin: int | None, config: ServiceConfig, tracking: TrackingConfig) -> Wanted:
    """Returns what `wanted` does, with the settings with which `gallery_application` starts it."""
    found = wanted(index, pin, tracking)
    settings = canonical_json({"service": config.gallery_settings, "tracking": asdict(tracking)}).decode()
    return replace(found, generation=replace(found.generation, settings=settings))


def gallery_application(generation: Generation, config: ServiceConfig, tracking: TrackingConfig) -> serve.Application:
    """Returns the application of a gallery: its shares, and the detector if the model can have one."""
    others: list[Any] = []
    options = {"num_cpus": config.cpus, "num_gpus": config.gpus, "max_ongoing_requests": config.max_requests}
    if config.num_detectors and is_registered(generation.model):
        detector = _deployment(PhotoDetector, DETECTOR, num_replicas=config.num_detectors, **options)
        others.append(detector.bind(generation, tracking, config))
    for number in reversed(range(config.num_shares)):
        share = _deployment(Share, f"{SHARE}-{number}", **_replicas(config), **options)
        bound = share.bind(
            generation, number, config.num_shares, tracking, config.device, *(others if not number else [])
        )
        others.append(bound)
    return others[-1]


@dataclass(frozen=True)
class ServeApplications:
    """The applications of this cluster's Ray Serve, for the follower."""

    config: ServiceConfig
    tracking: TrackingConfig

    def states(self) -> Mapping[str, tuple[str, str]]:
        """Returns the state and the message of every application by name."""
        applications = serve.status().applications
        return {name: (found.status.value, _messages(found)) for name, found in applications.items()}

    def deploy(self, name: str, generation: Generation) -> None:
        """Starts the application of a gallery, without waiting until it runs."""
        application = gallery_application(generation, self.config, self.tracking)
        serve.run_many([serve.RunTarget(application, name, None)], wait_for_applications_running=False)

    def delete(self, name: str) -> None:
        """Stops an application, after its requests in progress."""
        serve.delete(name, _blocking=False)


def _replicas(config: ServiceConfig) -> dict[str, Any]:
    """Returns the number of a share's processes, fixed or by load, for `serve.deployment`."""
    if not config.max_replicas:
        return {"num_replicas": config.num_replicas}
    limits = {"min_replicas": config.num_replicas, "max_replicas": config.max_replicas}
    return {"autoscaling_config": limits | {"target_ongoing_requests": ONGOING_REQUESTS}}


def _messages(application: Any) -> str:
    return "\n".join([application.message, *(found.message for found in application.deployments.values())])


def _deployment(kind: type, name: str, *, num_cpus: float, num_gpus: float = 0, **options: Any) -> serve.Deployment:
    actor = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    return serve.deployment(kind, name=name, ray_actor_options=actor, **_HEALTH, **options)
