"""Scores all pairs of photos and captions, in this process or on Ray actors; with a score cache it is resumable."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import infra.cluster
from infra.cluster import ClusterConfig
from infra.cluster_resources import ResourceRequest, Wait, may_scale, placeable, wait_for_resources
from infra.errors import UserError
from infra.log import log
from infra.metrics import EVALUATED_PAIRS
from infra.signals import when_interrupted
from infra.storage.open import require_durable_path
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.models.device import Device, choose_device
from shan_model.blocks import RegionRows
from shan_model.model import SHAN
from shan_model.score_cache import ScoreCache, ScoringError
from shan_model.scoring import OnPairs, open_matrix, score_matrix


def score_all_pairs(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    identity: str,
    progress: OnPairs,
) -> NDArray[np.floating]:
    """Returns the scores N x C of N photos with C captions.

    `identity` names everything that the scores depend on; a score cache with another identity is not used. `progress`
    is called with the number of pairs of every finished block. Raises UserError if the memory is too small or the
    cache file cannot be used.
    """

    def count(pairs: int) -> None:
        EVALUATED_PAIRS.add(pairs)
        progress(pairs)

    kept = f"finished blocks are kept in {config.cache_file}, re-run the same command to resume"
    try:
        cache = None
        if config.cache_file:
            require_durable_path(config.cache_file, "score.cache_file")
            cache = ScoreCache(Path(config.cache_file), f"{identity} {config.precision}", config.cache_dtype)
        with when_interrupted(kept) if cache is not None else nullcontext():
            if config.num_actors:
                return _score_on_actors(shan, regions, captions, config, cluster, cache, count)
            memory = config.memory_mb * 2**20
            return score_matrix(
                shan, regions, captions, memory=memory, precision=config.precision, cache=cache, progress=count
            )
    except ScoringError as error:
        raise UserError(str(error)) from error


def wait_for_actor(config: ScoreConfig, cluster: ClusterConfig) -> None:
    """Joins or starts Ray, and waits until it has room for one scoring actor. Raises UserError if it can never have."""
    infra.cluster.connect(cluster)
    wait_for_resources(cluster, scorer_request(config))


def driver_device(requested: Device, config: ScoreConfig) -> str:
    """Returns the device of models in this process: the requested one, or the CPU if Ray actors score.

    Raises UserError if the requested device has no effect or does not exist.
    """
    if not config.num_actors:
        return choose_device(requested)
    if requested != "auto":
        raise UserError(
            f"--device is {requested}, but has no effect with score.num_actors; omit it, or set score.actor_gpus"
        )
    return "cpu"


def _score_on_actors(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    cache: ScoreCache | None,
    progress: OnPairs,
) -> NDArray[np.floating]:
    """Actors score blocks, which the driver writes into the matrix."""
    import ray

    from pipelines.evaluation.actor_scoring import ActorPool, BlockScorer, RowBlock

    wait_for_actor(config, cluster)
    request = scorer_request(config)
    count = _usable_actors(config, request)
    blocks, matrix, wanted = open_matrix(
        shan,
        regions,
        captions,
        config.memory_mb * 2**20,
        cache=cache,
        progress=progress,
        min_row_blocks=config.num_actors,
    )
    work = [RowBlock(i, sorted(j for k, j in wanted if k == i)) for i in sorted({i for i, _ in wanted})]
    inputs = [ray.put(x) for x in (shan, regions, captions, blocks)]
    scorer = ray.remote(BlockScorer).options(num_cpus=1, num_gpus=config.actor_gpus)
    device: Device = "cuda" if config.actor_gpus else "cpu"
    pool = ActorPool(lambda: scorer.remote(*inputs, config.precision, device), count, lambda: Wait(cluster, request))
    try:
        for i, j, scores in pool.score(work):
            matrix[blocks.rows(i), blocks.columns(j)] = scores
            if cache is not None:
                cache.mark(i, j)
            progress(scores.size)
    finally:
        if cache is not None:
            cache.close()
        pool.close()
    return matrix


def _usable_actors(config: ScoreConfig, request: ResourceRequest) -> int:
    """Returns how many actors to start: on a cluster without autoscaler, at most as many as fit."""
    if may_scale():
        return config.num_actors
    fitting = max(1, placeable(request.bundles, config.num_actors))
    if fitting < config.num_actors:
        _print_once(f"{request.setting}, but the cluster fits only {fitting}, so {fitting} are used")
    return fitting


@functools.cache
def _print_once(text: str) -> None:
    """Prints for the first of several models and folds only."""
    log.info(text)


def scorer_request(config: ScoreConfig) -> ResourceRequest:
    """Returns the resources of one actor."""
    gpus = {"GPU": config.actor_gpus} if config.actor_gpus else {}
    setting = f"score.num_actors is {config.num_actors}"
    return ResourceRequest([{"CPU": 1.0, **gpus}], setting, "set score.actor_gpus or score.num_actors to 0")
