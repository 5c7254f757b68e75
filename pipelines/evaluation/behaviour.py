"""Behavioural tests of a model on a split: what it should prefer, and what should make no difference to it.

Each asks one thing of many cases. Preferences (a caption before a version of it made wrong) are a model's skill, with
a pass rate of 50 % by chance; what should make no difference holds for every case or the code is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.evaluation.perturbations import SWAPS, exchanged, odd_texts, restyled, shuffled, swapped
from pipelines.features.feature_set import Split
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import tokenize

CASES = 500
"""Captions, at most, that a test draws from the split."""
PHOTOS = 32
"""Photos, at most, whose order is changed."""
WORST = 4
"""Examples shown of a test."""
SAME, SAME_REGIONS = 1e-6, 1e-5
"""Scores that differ by no more are the same, also where one should be higher; sums over regions in another order
round differently."""


@dataclass(frozen=True)
class Example:
    """A case: a photo's row, what was said of it, what was changed, the scores before and after."""

    row: int
    said: str
    changed: str
    before: float
    after: float


@dataclass(frozen=True)
class Outcome:
    """What a test asks, and how many cases pass."""

    name: str
    asks: str
    cases: int
    passed: int
    chance: float | None
    """Pass rate of a model that knows nothing, if there is one."""
    worst: list[Example]
    """The failures by the most, or the passes by the least."""


def behaviour(shan: SHAN, split: Split, seed: int = 0) -> Iterator[Outcome]:
    """Every test, as it is done; a test without any case is left out."""
    shan.eval()
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(split.captions))[:CASES])
    tests: list[Callable[[], Outcome]] = [
        lambda: _word_order(shan, split, drawn, rng),
        *(lambda kind=kind: _swap(shan, split, drawn, kind, rng) for kind in SWAPS),
        lambda: _exchange(shan, split, drawn),
        lambda: _beats_silence(shan, split, drawn),
        lambda: _odd_texts(shan, split),
        lambda: _style(shan, split, drawn),
        lambda: _photo_order(shan, split, rng),
        lambda: _duplicates(shan, split),
        lambda: _region_order(shan, split, rng),
    ]
    for test in tests:
        outcome = test()
        if outcome.cases:
            yield outcome


def _word_order(shan: SHAN, split: Split, drawn: NDArray[np.int64], rng: np.random.Generator) -> Outcome:
    changes = [(c, shuffled(split.captions[c], rng)) for c in drawn.tolist()]
    return _preference(shan, split, "word order", "a caption scores higher than its words in another order", changes)


def _swap(shan: SHAN, split: Split, drawn: NDArray[np.int64], kind: str, rng: np.random.Generator) -> Outcome:
    known = {word for caption in split.captions for word in tokenize(caption)}
    changes = []
    for c in drawn.tolist():
        told = {word for said in split.meta[split.photo_of_caption[c]]["captions"] for word in tokenize(said)}
        changes.append((c, swapped(split.captions[c], kind, known, told, rng)))
    asks = f"a caption scores higher than with another {kind}, one that nobody tells of the photo"
    return _preference(shan, split, f"{kind} swapped", asks, changes)


def _exchange(shan: SHAN, split: Split, drawn: NDArray[np.int64]) -> Outcome:
    changes = [(c, exchanged(split.captions[c])) for c in drawn.tolist()]
    asks = "a caption scores higher than with two of its colours or sizes in each other's place: same words"
    return _preference(shan, split, "attributes exchanged", asks, changes)


def _beats_silence(shan: SHAN, split: Split, drawn: NDArray[np.int64]) -> Outcome:
    asks = "a caption scores higher than no caption"
    return _preference(shan, split, "empty caption", asks, [(c, "") for c in drawn.tolist()])


def _preference(shan: SHAN, split: Split, name: str, asks: str, changes: Sequence[tuple[int, str | None]]) -> Outcome:
    cases = []
    for c, changed in changes:
        if changed is not None:
            row, said = int(split.photo_of_caption[c]), split.captions[c]
            cases.append(Example(row, said, changed, *_scores(shan, split, row, [said, changed])))
    passed = sum(case.before - case.after > SAME for case in cases)
    worst = sorted(cases, key=lambda case: case.before - case.after)[:WORST]
    return Outcome(name, asks, len(cases), passed, 0.5, worst)


def _odd_texts(shan: SHAN, split: Split) -> Outcome:
    texts = odd_texts(split.captions)
    cases = [
        Example(row, "", name, 0.0, score)
        for row in range(min(PHOTOS, len(split)))
        for name, score in zip(texts, _scores(shan, split, row, list(texts.values())), strict=True)
    ]
    passed = sum(bool(np.isfinite(case.after)) for case in cases)
    asks = "every text has a finite score: " + ", ".join(texts)
    worst = [case for case in cases if not np.isfinite(case.after)][:WORST]
    return Outcome("odd texts", asks, len(cases), passed, None, worst)


def _style(shan: SHAN, split: Split, drawn: NDArray[np.int64]) -> Outcome:
    cases = []
    for c in drawn.tolist():
        row, said = int(split.photo_of_caption[c]), split.captions[c]
        forms = restyled(said)
        before, *after = _scores(shan, split, row, [said, *forms])
        cases += [Example(row, said, form, before, score) for form, score in zip(forms, after, strict=True)]
    return _invariance("case and spaces", "capitals, wide spaces and a full stop change nothing", cases, SAME)


def _photo_order(shan: SHAN, split: Split, rng: np.random.Generator) -> Outcome:
    photos, captions = _gallery(split)
    order = rng.permutation(len(photos))
    before_NC = _matrix(shan, photos, captions)
    after_NC = np.empty_like(before_NC)
    after_NC[order] = _matrix(shan, [photos[i] for i in order], captions)
    asks = "photos in another order have the same scores"
    return _invariance("photo order", asks, _pairs(captions, "another order", before_NC, after_NC), SAME)


def _duplicates(shan: SHAN, split: Split) -> Outcome:
    photos, captions = _gallery(split)
    once_NC, again_NC = np.split(_matrix(shan, [*photos, *photos], captions), 2)
    asks = "a photo that is there twice has one score"
    return _invariance("duplicates", asks, _pairs(captions, "its duplicate", once_NC, again_NC), SAME)


def _region_order(shan: SHAN, split: Split, rng: np.random.Generator) -> Outcome:
    photos, captions = _gallery(split)
    before_NC = _matrix(shan, photos, captions)
    after_NC = _matrix(shan, [regions_RF[rng.permutation(len(regions_RF))] for regions_RF in photos], captions)
    asks = "a photo's regions in another order have the same scores"
    return _invariance("region order", asks, _pairs(captions, "another order", before_NC, after_NC), SAME_REGIONS)


def _matrix(shan: SHAN, photos: list[NDArray[np.floating]], captions: list[str]) -> NDArray[np.floating]:
    """Scores as evaluation makes them: photos with equally many regions are encoded together."""
    alike = len({len(regions_RF) for regions_RF in photos}) == 1
    return score_matrix(shan, np.stack(photos) if alike else photos, captions)


def _invariance(name: str, asks: str, cases: Sequence[Example], same: float) -> Outcome:
    """Not a number is the same as nothing."""
    passed = sum(abs(case.after - case.before) <= same for case in cases)
    worst = sorted(cases, key=lambda case: -np.nan_to_num(abs(case.after - case.before), nan=np.inf))[:WORST]
    return Outcome(name, f"{asks}, to {same:g}", len(cases), passed, None, worst)


def _pairs(
    captions: Sequence[str], changed: str, before_NC: NDArray[np.floating], after_NC: NDArray[np.floating]
) -> list[Example]:
    return [
        Example(row, said, changed, float(before_NC[row, c]), float(after_NC[row, c]))
        for row in range(len(before_NC))
        for c, said in enumerate(captions)
    ]


def _gallery(split: Split) -> tuple[list[NDArray[np.floating]], list[str]]:
    """The first photos, with a caption each."""
    rows = np.arange(min(PHOTOS, len(split)))
    first = np.searchsorted(split.photo_of_caption, rows)
    return list(split[rows]), [split.captions[c] for c in first]


@torch.inference_mode()
def _scores(shan: SHAN, split: Split, row: int, texts: list[str]) -> list[float]:
    """Of one photo with some texts."""
    scores: list[float] = shan(torch.from_numpy(np.stack(list(split[[row]]))), texts)[0].tolist()
    return scores
