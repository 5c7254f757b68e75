"""Scores blocks on Ray actors. Work goes to actors that have started; the work of a lost actor goes to another one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from infra.cluster_resources import Wait
from infra.errors import UserError
from infra.log import log
from infra.ray_jobs import one_line
from pipelines.models.device import Device, choose_device
from shan_model.blocks import Blocks, RegionRows
from shan_model.model import SHAN
from shan_model.scoring import score_blocks

MAX_LOSSES = 3
"""Losses per actor, without a finished block between them, after which scoring fails."""
_POLL_S = 2.0

ScoredBlock = tuple[int, int, NDArray[np.float32]]


class RowBlock(NamedTuple):
    """Blocks of a row that remain to be scored."""

    i: int
    columns: list[int]


class BlockScorer:
    """A Ray actor with one CPU, and a GPU if `device` is one, that scores row blocks."""

    def __init__(
        self, shan: SHAN, regions: RegionRows, captions: Sequence[str], blocks: Blocks, precision: str, device: Device
    ) -> None:
        torch.set_num_threads(1)
        self._inputs = shan.eval(), regions, captions, blocks
        self._precision, self._device = precision, device

    def ready(self) -> None:
        """Moves the model to the device. Raises UserError without one; in `__init__`, that would be a lost actor."""
        self._inputs[0].to(choose_device(self._device, "the device of an actor (score.actor_gpus)"))

    def score_row_block(self, i: int, columns: list[int]) -> Iterator[ScoredBlock]:
        """Yields (i, j, scores) for the given column blocks of row block i, each when it is finished."""
        yield from score_blocks(*self._inputs, {(i, j) for j in columns}, precision=self._precision)


class ActorPool:
    """Actors that are starting, idle, or scoring a row block."""

    def __init__(self, create: Callable[[], Any], count: int, new_wait: Callable[[], Wait]) -> None:
        """`create` starts a BlockScorer; `new_wait` describes the wait for the resources of one."""
        self._create, self._count, self._new_wait = create, count, new_wait
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._scoring: dict[Any, tuple[Any, RowBlock]] = {}  # actor and work by the stream of its blocks
        self._losses = 0

    def score(self, work: list[RowBlock]) -> Iterator[ScoredBlock]:
        """Yields the blocks of all row blocks, in any order.

        Raises what an actor's code raises, and UserError if no actor can start or actors are lost again and again.
        """
        work = list(work)
        for _ in range(min(self._count, len(work))):
            self._start()
        wait = self._new_wait()
        while work or self._scoring:
            while work and self._idle:
                actor, row_block = self._idle.pop(), work.pop(0)
                stream = actor.score_row_block.options(num_returns="streaming").remote(*row_block)
                self._scoring[stream] = actor, row_block
            events = [*self._starting, *self._scoring]
            ready, _ = ray.wait(events, num_returns=1, timeout=_POLL_S, fetch_local=False)
            if self._scoring:
                wait = self._new_wait()
            elif not ready:
                wait.check()
            for event in ready:
                yield from self._handle(event, work)

    def close(self) -> None:
        """Ends all actors."""
        for actor in [*self._starting.values(), *self._idle, *(actor for actor, _ in self._scoring.values())]:
            ray.kill(actor)

    def _start(self) -> None:
        actor = self._create()
        self._starting[actor.ready.remote()] = actor

    def _handle(self, event: Any, work: list[RowBlock]) -> Iterator[ScoredBlock]:
        """Yields the block if the event is one; otherwise an actor has started, has finished its work, or is lost."""
        try:
            if event in self._starting:
                ray.get(event)
                self._idle.append(self._starting.pop(event))
                return
            i, j, scores = ray.get(next(event))
        except StopIteration:
            self._idle.append(self._scoring.pop(event)[0])
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            self._replace(event, work, error)
        else:
            self._losses = 0
            self._scoring[event][1].columns.remove(j)
            yield i, j, scores

    def _replace(self, event: Any, work: list[RowBlock], error: RayError) -> None:
        """Starts an actor in place of a lost one and takes back the lost one's work."""
        self._losses += 1
        if self._losses > MAX_LOSSES * self._count:
            raise UserError(
                f"{self._losses} scoring actors were lost without finishing a block ({one_line(error)}); lower "
                "score.memory_mb or use nodes with more memory"
            ) from error
        if event in self._starting:
            lost = self._starting.pop(event)
        else:
            lost, remaining = self._scoring.pop(event)
            if remaining.columns:
                work.insert(0, remaining)
                log.warning("a scoring actor was lost; another one scores its photos", extra={"event": "actor_lost"})
        ray.kill(lost)
        self._start()
