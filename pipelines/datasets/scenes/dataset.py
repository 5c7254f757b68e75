"""All scenes of a data set with their captions, in memory: what `generate` writes."""

import random
from dataclasses import dataclass

from pipelines.datasets.scenes.captions import Plan, draw_captions
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.meaning import Claim, Crowd
from pipelines.datasets.scenes.sampling import draw_split
from pipelines.datasets.scenes.world import Scene

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One scene of the data set; `twin` names the entry that shares its words, `swap` what was exchanged."""

    name: str
    split: str
    scene: Scene
    captions: tuple[str, ...]
    claims: tuple[Claim, ...]
    twin: str | None
    swap: str | None

    @property
    def filename(self) -> str:
        """Name of the photo's file."""
        return f"{self.name}.png"


def draw_dataset(config: ScenesConfig) -> list[Entry]:
    """The entries, split by split; no combination of attributes occurs in two splits."""
    used: set[object] = set()
    # The small splits first: a larger `train` then leaves val and test as they are.
    drawn = {split: _draw_entries(config, split, used) for split in reversed(SPLITS)}
    return [entry for split in SPLITS for entry in drawn[split]]


def _draw_entries(config: ScenesConfig, split: str, used: set[object]) -> list[Entry]:
    rng = random.Random(f"scenes/{config.seed}/{split}")  # noqa: S311 - pictures, not secrets
    drafts = draw_split(rng, getattr(config, split), config.twins, used)
    crowd = Crowd([draft.scene for draft in drafts])
    plans: dict[int, list[Plan]] = {}
    for index, draft in enumerate(drafts):
        if index in plans:
            continue
        twin = None if draft.twin is None else drafts[draft.twin].scene
        plans[index] = draw_captions(rng, draft.scene, crowd, twin, draft.swap)
        if draft.twin is not None:
            plans[draft.twin] = plans[index]
    return [
        Entry(
            name=_name(split, index),
            split=split,
            scene=draft.scene,
            captions=tuple(plan.tell(draft.scene) for plan in plans[index]),
            claims=tuple(plan.claim(draft.scene) for plan in plans[index]),
            twin=None if draft.twin is None else _name(split, draft.twin),
            swap=None if draft.swap is None else draft.swap.kind,
        )
        for index, draft in enumerate(drafts)
    ]


def _name(split: str, index: int) -> str:
    return f"{split}_{index:05d}"
