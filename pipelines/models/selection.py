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

    def bias_on(self, dataset: str, split: str) -> str:
        """Returns why results on a split of a data set are optimistic, as reasons name it; empty if they are not.

        The same photos may be in a data set of another name, which a name cannot tell.
        """
        if self.trials < 2 or split != self.split:
            return ""
        renamed = "" if dataset == self.dataset else f" of data set {self.dataset}, if {dataset} has photos of it"
        return f"the best of {self.trials} trials of a sweep on {self.split}{renamed}"


def record_selection(tracking: Tracking, name: str, version: int, selection: Selection) -> None:
    """Sets the tags of a version that a sweep selected. Of several sweeps, the one with the most trials is kept."""
    earlier = read_selection(tracking.client().get_model_version(name, str(version)).tags)
    if earlier and earlier.trials > selection.trials:
        return
    annotate(tracking, name, version, {f"{_PREFIX}{key}": value for key, value in asdict(selection).items()})


def read_selection(tags: Mapping[str, str]) -> Selection | None:
    """Returns the selection that the tags of a version record, or None for the version of a single training."""
    found = {key.removeprefix(_PREFIX): value for key, value in tags.items() if key.startswith(_PREFIX)}
    return Selection(found["sweep"], int(found["trials"]), found["split"], found["dataset"]) if found else None
