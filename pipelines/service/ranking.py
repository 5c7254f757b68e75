"""Search over several shares of an index: the ranking that one process with all partitions would find.

Every share finds candidates among its items, the merged ones are scored by the shares that hold them, and the merged
scores are the result. A share that is lost or slow is left out, and the result is partial.
"""

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from pipelines.search.gallery import Filter
from pipelines.search.hits import Explanation, Hit
from pipelines.search.index import EncodedQueries, RankedRows, merge, too_few
from pipelines.service.calls import lost_process
from pipelines.service.errors import timed_out

CANDIDATES_BY, SCORES_BY, EXPLAINED_BY = 0.4, 0.75, 0.9
"""Parts of a request's time after which a share is left out that has not responded with these."""
AGAIN_S = 2.0
"""Seconds for which queries leave out a share that did not respond in time to one."""
T = TypeVar("T")


@dataclass(frozen=True)
class ShareQuery:
    """A query of one sentence or photo."""

    gallery: str
    queries: EncodedQueries
    k: int
    candidates: int
    where: Filter | None = None
    sentence: str | None = None
    items: int = 0
    """Items of the gallery, of all shares."""
    every_list: bool = False
    """Whether candidates are sought in all lists, not only in those nearest to the query."""


@dataclass(frozen=True)
class Ranked:
    """What a share found of its own items."""

    ranking: RankedRows
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    hits: tuple[Hit, ...]
    explanations: tuple[Explanation | None, ...] = ()
    """One for each hit if they were asked for; None where its share did not respond."""
    missing: tuple[int, ...] = ()
    """Shares that did not respond."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each stage."""


class ShareClient(Protocol):
    """A share of the index, in this process or in another one."""

    async def candidates(self, query: ShareQuery) -> RankedRows:
        """Returns the nearest items of the share."""

    async def rerank(self, query: ShareQuery, candidates: RankedRows) -> Ranked:
        """Returns the best of the candidates that the share holds, by their exact score."""

    async def explain(self, sentence: str, hits: Sequence[Hit]) -> list[Explanation]:
        """Explains photos that the share holds."""


class SilentShares:
    """The shares that did not respond in time. A query every AGAIN_S tries each of them; the others do not wait."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def others(self, shares: Mapping[int, ShareClient]) -> dict[int, ShareClient]:
        """Returns the shares to ask now: all if none has responded."""
        now = time.monotonic()
        asked = {number: share for number, share in shares.items() if self._until.get(number, now) <= now}
        self._until |= dict.fromkeys(asked.keys() & self._until.keys(), now + AGAIN_S)
        return asked or dict(shares)

    def record(self, asked: Iterable[int], missing: Collection[int]) -> None:
        """Takes note of the shares that were asked, and of those that did not respond."""
        for number in asked:
            if number in missing:
                self._until[number] = time.monotonic() + AGAIN_S
            else:
                self._until.pop(number, None)


async def search(shares: Mapping[int, ShareClient], query: ShareQuery, seconds: float, explain: bool = False) -> Found:
    """Returns the best items of all shares. Raises TimeoutError if none responds in time."""
    start = time.monotonic()
    near, nearest = await _candidates(shares, query, start + CANDIDATES_BY * seconds)
    stages = {"candidates": time.monotonic() - start}
    scored = await _responses({n: shares[n].rerank(query, nearest) for n in near}, start + SCORES_BY * seconds)
    stages["rerank"] = time.monotonic() - start - stages["candidates"]
    best = merge([part.ranking for part in scored.values()], query.k)
    share_of = {hit.row: (n, hit) for n, part in scored.items() for hit in part.hits}
    found = [share_of[row] for row in best.rows_QK[0].tolist() if row >= 0]
    missing = set(shares) - set(scored)
    hits = tuple(hit for _, hit in found)
    if not explain or query.sentence is None:
        return Found(hits, missing=tuple(sorted(missing)), stages=stages)
    explained, silent = await _explanations(shares, query.sentence, found, start + EXPLAINED_BY * seconds)
    stages["explain"] = time.monotonic() - start - sum(stages.values())
    return Found(hits, explained, tuple(sorted(missing | silent)), stages)


async def _candidates(
    shares: Mapping[int, ShareClient], query: ShareQuery, until: float
) -> tuple[Mapping[int, RankedRows], RankedRows]:
    """Returns the candidates of the shares that respond, and the nearest among them, as one process finds them."""
    count = max(query.candidates, query.k)
    near = await _responses({n: share.candidates(query) for n, share in shares.items()}, until)
    nearest = merge(near.values(), count)
    is_complete = query.every_list or query.where is not None or len(near) < len(shares)
    if is_complete or not too_few(nearest, min(count, query.items)).any():
        return near, nearest
    return await _candidates(shares, replace(query, every_list=True), until)


async def _explanations(
    shares: Mapping[int, ShareClient], sentence: str, found: Sequence[tuple[int, Hit]], until: float
) -> tuple[tuple[Explanation | None, ...], set[int]]:
    """Returns an explanation of each hit, and the shares that did not respond."""
    of_share: dict[int, list[Hit]] = {}
    for number, hit in found:
        of_share.setdefault(number, []).append(hit)
    calls = {number: shares[number].explain(sentence, hits) for number, hits in of_share.items()}
    explained = await _responses(calls, until) if calls else {}
    by_row = {
        hit.row: explanation
        for number, explanations in explained.items()
        for hit, explanation in zip(of_share[number], explanations, strict=True)
    }
    return tuple(by_row.get(hit.row) for _, hit in found), set(of_share) - set(explained)


async def _responses(calls: Mapping[int, Awaitable[T]], until: float) -> dict[int, T]:
    """Returns what the shares respond until a time; the others are cancelled.

    Raises the error of a share that fails for another reason than a lost process, and if none responds.
    """
    tasks = {number: asyncio.ensure_future(call) for number, call in calls.items()}
    try:
        await asyncio.wait(tasks.values(), timeout=max(until - time.monotonic(), 0))
        found, lost = dict[int, T](), None
        for number, task in tasks.items():
            if not task.done():
                continue
            error = task.exception()
            if error is None:
                found[number] = task.result()
            elif lost_process(error):
                lost = error
            else:
                raise error
        if not found:
            raise lost if lost is not None else timed_out()
        return found
    finally:
        for task in tasks.values():
            task.cancel()
