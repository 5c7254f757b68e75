"""Behavioural tests of a model on a split.

Directional expectation tests: a caption must score higher than a perturbed caption that is wrong. Their pass rate
measures what the model has learned; the random baseline passes half of the cases. Invariance tests: a perturbation that
keeps the meaning, or the order of the inputs, must not change a score. They pass for all cases unless the code has a
bug. (Terms: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with CheckList, ACL 2020.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.evaluation.perturbations import (
    REPLACEMENTS,
    reformat,
    replace_word,
    shuffle_words,
    swap_attributes,
    unusual_texts,
)
from pipelines.features.split import Split
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import tokenize

MAX_CAPTIONS = 500
"""Captions that a test samples from the split, at most."""
MAX_PHOTOS = 32
"""Photos of the tests of input order, at most."""
WORST_CASES = 4
"""Cases that a result lists."""
TOLERANCE = {"cpu": 1e-6, "cuda": 1e-4}
"""Largest difference between equal scores by type of device: a GPU rounds differently in batches of other sizes."""
REGION_ORDER_TOLERANCE = {"cpu": 1e-5, "cuda": 1e-4}
"""The same where regions are in another order: their sums round differently."""
TIE = 1e-6
"""Difference up to which a caption does not count as better than its perturbation."""


@dataclass(frozen=True)
class Case:
    """A photo with a caption and its perturbation, and the score of each."""

    row: int
    """Row of the photo in the split."""
    caption: str
    perturbation: str
    """The perturbed caption, or what was changed in the input."""
    score: float
    perturbed_score: float


@dataclass(frozen=True)
class BehaviourResult:
    """The result of one test."""

    name: str
    expectation: str
    cases: int
    passed: int
    random_pass_rate: float | None
    """Pass rate of the random baseline; None for invariance tests."""
    worst: list[Case]
    """Cases with the largest deviation from the expectation; these fail unless all cases pass."""


def run_behaviour_tests(shan: SHAN, split: Split, seed: int = 0) -> Iterator[BehaviourResult]:
    """Yields the result of every test as it finishes; tests without a case in this split are left out."""
    shan.eval()
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(split.captions))[:MAX_CAPTIONS])
    tests: list[Callable[[], BehaviourResult]] = [
        lambda: _word_order(shan, split, sample, rng),
        *(lambda kind=kind: _replaced_word(shan, split, sample, kind, rng) for kind in REPLACEMENTS),
        lambda: _swapped_attributes(shan, split, sample),
        lambda: _empty_caption(shan, split, sample),
        lambda: _unusual_texts(shan, split),
        lambda: _case_and_spaces(shan, split, sample),
        lambda: _photo_order(shan, split, rng),
        lambda: _duplicate_photos(shan, split),
        lambda: _region_order(shan, split, rng),
    ]
    for test in tests:
        result = test()
        if result.cases:
            yield result


def _word_order(shan: SHAN, split: Split, sample: NDArray[np.int64], rng: np.random.Generator) -> BehaviourResult:
    perturbed = [(c, shuffle_words(split.captions[c], rng)) for c in sample.tolist()]
    return _directional(shan, split, "word order", "a caption scores higher than its words in another order", perturbed)


def _replaced_word(
    shan: SHAN, split: Split, sample: NDArray[np.int64], kind: str, rng: np.random.Generator
) -> BehaviourResult:
    vocabulary = {word for caption in split.captions for word in tokenize(caption)}
    perturbed = []
    for c in sample.tolist():
        own_captions = split.captions_of_photos[split.photo_of_caption[c]]
        excluded = {word for caption in own_captions for word in tokenize(caption)}
        perturbed.append((c, replace_word(split.captions[c], kind, vocabulary, excluded, rng)))
    expectation = f"a caption scores higher than with another {kind} that none of the photo's captions mentions"
    return _directional(shan, split, f"{kind} replaced", expectation, perturbed)


def _swapped_attributes(shan: SHAN, split: Split, sample: NDArray[np.int64]) -> BehaviourResult:
    perturbed = [(c, swap_attributes(split.captions[c])) for c in sample.tolist()]
    expectation = "a caption scores higher than with two of its colours or sizes swapped"
    return _directional(shan, split, "attributes swapped", expectation, perturbed)


def _empty_caption(shan: SHAN, split: Split, sample: NDArray[np.int64]) -> BehaviourResult:
    perturbed = [(c, "") for c in sample.tolist()]
    return _directional(shan, split, "empty caption", "a caption scores higher than an empty caption", perturbed)


def _directional(
    shan: SHAN, split: Split, name: str, expectation: str, perturbed: Sequence[tuple[int, str | None]]
) -> BehaviourResult:
    """Runs a directional expectation test on pairs of a caption's index and its perturbed text (None: no case)."""
    cases = []
    for c, text in perturbed:
        if text is not None:
            row, caption = int(split.photo_of_caption[c]), split.captions[c]
            cases.append(Case(row, caption, text, *_scores(shan, split, row, [caption, text])))
    passed = sum(case.score - case.perturbed_score > TIE for case in cases)
    worst = sorted(cases, key=lambda case: case.score - case.perturbed_score)[:WORST_CASES]
    return BehaviourResult(name, expectation, len(cases), passed, 0.5, worst)


def _unusual_texts(shan: SHAN, split: Split) -> BehaviourResult:
    texts = unusual_texts(split.captions)
    cases = [
        Case(row, "", name, 0.0, score)
        for row in range(min(MAX_PHOTOS, len(split)))
        for name, score in zip(texts, _scores(shan, split, row, list(texts.values())), strict=True)
    ]
    failed = [case for case in cases if not np.isfinite(case.perturbed_score)]
    expectation = "every text has a finite score: " + ", ".join(texts)
    return BehaviourResult(
        "unusual texts", expectation, len(cases), len(cases) - len(failed), None, failed[:WORST_CASES]
    )


def _case_and_spaces(shan: SHAN, split: Split, sample: NDArray[np.int64]) -> BehaviourResult:
    cases = []
    for c in sample.tolist():
        row, caption = int(split.photo_of_caption[c]), split.captions[c]
        forms = reformat(caption)
        score, *perturbed_scores = _scores(shan, split, row, [caption, *forms])
        cases += [Case(row, caption, form, score, other) for form, other in zip(forms, perturbed_scores, strict=True)]
    expectation = "capitals, wide spaces and a full stop do not change a score"
    return _invariance("case and spaces", expectation, cases, TOLERANCE[shan.device.type])


def _photo_order(shan: SHAN, split: Split, rng: np.random.Generator) -> BehaviourResult:
    photos, captions = _gallery(split)
    order = rng.permutation(len(photos))
    scores_NC = _score(shan, photos, captions)
    perturbed_NC = np.empty_like(scores_NC)
    perturbed_NC[order] = _score(shan, [photos[i] for i in order], captions)
    expectation = "the order of the photos does not change a score"
    cases = _pairs(captions, "photos reordered", scores_NC, perturbed_NC)
    return _invariance("photo order", expectation, cases, TOLERANCE[shan.device.type])


def _duplicate_photos(shan: SHAN, split: Split) -> BehaviourResult:
    photos, captions = _gallery(split)
    first_NC, second_NC = np.split(_score(shan, [*photos, *photos], captions), 2)
    expectation = "both copies of a duplicate photo have the same score"
    cases = _pairs(captions, "duplicate", first_NC, second_NC)
    return _invariance("duplicate photos", expectation, cases, TOLERANCE[shan.device.type])


def _region_order(shan: SHAN, split: Split, rng: np.random.Generator) -> BehaviourResult:
    photos, captions = _gallery(split)
    scores_NC = _score(shan, photos, captions)
    perturbed_NC = _score(shan, [regions_RF[rng.permutation(len(regions_RF))] for regions_RF in photos], captions)
    expectation = "the order of a photo's regions does not change a score"
    cases = _pairs(captions, "regions reordered", scores_NC, perturbed_NC)
    return _invariance("region order", expectation, cases, REGION_ORDER_TOLERANCE[shan.device.type])


def _invariance(name: str, expectation: str, cases: Sequence[Case], tolerance: float) -> BehaviourResult:
    """Evaluates an invariance test; a score that is not a number fails."""
    differences = [abs(case.perturbed_score - case.score) for case in cases]
    passed = sum(difference <= tolerance for difference in differences)
    order = np.argsort(-np.nan_to_num(differences, nan=np.inf), kind="stable")[:WORST_CASES]
    worst = [cases[i] for i in order]
    return BehaviourResult(name, f"{expectation} (tolerance {tolerance:g})", len(cases), passed, None, worst)


def _pairs(
    captions: Sequence[str], perturbation: str, scores_NC: NDArray[np.floating], perturbed_NC: NDArray[np.floating]
) -> list[Case]:
    return [
        Case(row, caption, perturbation, float(scores_NC[row, c]), float(perturbed_NC[row, c]))
        for row in range(len(scores_NC))
        for c, caption in enumerate(captions)
    ]


def _gallery(split: Split) -> tuple[list[NDArray[np.floating]], list[str]]:
    """Returns the region features of the first photos, and one caption of each."""
    rows = np.arange(min(MAX_PHOTOS, len(split)))
    first_captions = np.searchsorted(split.photo_of_caption, rows)
    return list(split[rows]), [split.captions[c] for c in first_captions]


def _score(shan: SHAN, photos: list[NDArray[np.floating]], captions: list[str]) -> NDArray[np.floating]:
    """Scores all pairs as an evaluation does: photos with equal numbers of regions are encoded in one batch."""
    equal = len({len(regions_RF) for regions_RF in photos}) == 1
    return score_matrix(shan, np.stack(photos) if equal else photos, captions)


@torch.inference_mode()
def _scores(shan: SHAN, split: Split, row: int, texts: list[str]) -> list[float]:
    """Returns the scores of one photo with several texts."""
    scores: list[float] = shan(torch.from_numpy(np.stack(list(split[[row]]))), texts)[0].tolist()
    return scores
