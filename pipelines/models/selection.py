"""How a sweep selected a registered version, as tags of the version.

The best of several trials is partly lucky on the split that selected it, so results on that split are optimistic.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from infra.registry import annotate
from infra.tracking import Tracking

_PREFIX = "selection."


@dataclass(frozen=True)
class Selection:
    """The choice of a version among the trials of a sweep."""

    sweep: str
    """MLflow run of the sweep."""
    trials: int
    """Number of trials, of which the version is the best."""
    split: str
    dataset: str
    """Data set that the split belongs to."""

    def is_biased_on(self, dataset: str, split: str) -> bool:
        """Returns whether results on a split are optimistic. Data sets of one name may share photos."""
        return self.trials > 1 and (self.dataset, self.split) == (dataset, split)

    def __str__(self) -> str:
        """Returns the selection as reasons name it."""
        return f"the best of {self.trials} trials of a sweep on {self.split}"


def record_selection(tracking: Tracking, name: str, version: int, selection: Selection) -> None:
    """Sets the tags of a version that a sweep selected."""
    annotate(tracking, name, version, {f"{_PREFIX}{key}": value for key, value in asdict(selection).items()})


def read_selection(tags: Mapping[str, str]) -> Selection | None:
    """Returns the selection that the tags of a version record, or None for the version of a single training."""
    found = {key.removeprefix(_PREFIX): value for key, value in tags.items() if key.startswith(_PREFIX)}
    return Selection(found["sweep"], int(found["trials"]), found["split"], found["dataset"]) if found else None
