"""Draws all scenes of a data set with their captions, in memory; `generate` writes them."""

import random
from dataclasses import dataclass

from pipelines.datasets.scenes.captions import Plan, draw_captions
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.meaning import SceneIndex, Statement
from pipelines.datasets.scenes.sampling import draw_split
from pipelines.datasets.scenes.world import Scene

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One scene of the data set with its captions and their statements.

    `counterpart` is the name of the other entry of its minimal pair, `swap` the kind of exchange between the two.
    """

    name: str
    split: str
    scene: Scene
    captions: tuple[str, ...]
    statements: tuple[Statement, ...]
    counterpart: str | None
    swap: str | None

    @property
    def filename(self) -> str:
        """Returns the file name of the photo."""
        return f"{self.name}.png"


def draw_dataset(config: ScenesConfig) -> list[Entry]:
    """Returns the entries, split by split; no combination of colours and shapes occurs in two splits."""
    used: set[object] = set()
    # The training split is drawn last, so that val and test do not depend on its size.
    drawn = {split: _draw_entries(config, split, used) for split in reversed(SPLITS)}
    return [entry for split in SPLITS for entry in drawn[split]]


def _draw_entries(config: ScenesConfig, split: str, used: set[object]) -> list[Entry]:
    rng = random.Random(f"scenes/{config.seed}/{split}")  # noqa: S311 - pictures, not secrets
    drafts = draw_split(rng, getattr(config, split), config.minimal_pairs, used)
    index = SceneIndex([draft.scene for draft in drafts])
    plans: dict[int, list[Plan]] = {}
    for number, draft in enumerate(drafts):
        if number in plans:
            continue
        counterpart = None if draft.counterpart is None else drafts[draft.counterpart].scene
        plans[number] = draw_captions(rng, draft.scene, index, counterpart, draft.swap)
        if draft.counterpart is not None:
            plans[draft.counterpart] = plans[number]
    return [
        Entry(
            name=_name(split, number),
            split=split,
            scene=draft.scene,
            captions=tuple(plan.sentence(draft.scene) for plan in plans[number]),
            statements=tuple(plan.statement(draft.scene) for plan in plans[number]),
            counterpart=None if draft.counterpart is None else _name(split, draft.counterpart),
            swap=None if draft.swap is None else draft.swap.kind,
        )
        for number, draft in enumerate(drafts)
    ]


def _name(split: str, number: int) -> str:
    return f"{split}_{number:05d}"
