"""A training's place in storage: claimed by one run, found again by the same command with `--resume`.

`<train.output>/<model name>-<12 hex>` is named by all that the result depends on (features, network, training), so that
one configuration is trained once. In it: `run.json` (written first, by whoever claims it), `driver-<number>.json` of
every process that went on with it, Ray Train's checkpoints and its record of them, and `finished.json`.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra.errors import LeaseLostError, UserError
from infra.storage.base import Store
from infra.storage.open import open_store, require_folder
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shards import canonical_json
from pipelines.training.setup import TrainingSetup

RUN, FINISHED = "run.json", "finished.json"


@dataclass(frozen=True)
class Place:
    """Where one training keeps its checkpoints."""

    store: Store
    root: str
    """`train.output` as Ray Train takes it: an absolute path, or s3://bucket/prefix."""
    name: str

    def claim(self, run_id: str) -> bool:
        """Whether this run is the first here; it is then the only one, now and later."""
        return self.store.put_if_absent(RUN, canonical_json({"run": run_id}))

    def run_id(self) -> str | None:
        """The run that claimed the place; None if there is none."""
        document = self.read(RUN)
        return None if document is None else str(document["run"])

    def take(self) -> "Seat":
        """The seat of the process that drives the work from now on; those before it have to stop."""
        number = 1
        while not self.store.put_if_absent(_driver(number), b"{}\n"):
            number += 1
        return Seat(self, number)

    def finish(self, result: dict[str, Any]) -> None:
        """Notes what the training has come to."""
        self.store.replace(FINISHED, canonical_json(result))

    def finished(self) -> dict[str, Any] | None:
        """What it has come to; None before."""
        return self.read(FINISHED)

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON object of the place; None if it is not there."""
        try:
            document = json.loads(self.store.read(name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{self.store.uri}/{name} is damaged; delete the folder to train again") from error
        assert isinstance(document, dict)
        return document


def _driver(number: int) -> str:
    return f"driver-{number:06d}.json"


@dataclass(frozen=True)
class Seat:
    """Of one of the processes that have driven the work at a place, one after the other."""

    place: Place
    number: int

    def is_taken(self) -> bool:
        """Whether another process has come since."""
        return self.place.read(_driver(self.number + 1)) is not None

    def require(self) -> None:
        """LeaseLostError if another process has come since: nothing here is this one's to write any more."""
        if self.is_taken():
            raise LeaseLostError(f"{self.place.store.uri}: another process goes on with this; it is left to that one")


def place_of(features: FeatureSet, name: str, setup: TrainingSetup) -> Place:
    """The place of a training; UserError if `train.output` cannot be written."""
    told = {
        "features": features.lineage["feature_set"],
        "model": asdict(setup.model),
        "train": setup.train.what_is_trained(),
    }
    require_output(setup.train.output)
    output = absolute_output(setup.train.output)
    training = f"{name}-{sha256(canonical_json(told)).hexdigest()[:12]}"
    return place_at(output, training)


def place_at(output: str, name: str) -> Place:
    """The place of that name below `train.output`."""
    return Place(open_store(f"{output.rstrip('/')}/{name}"), output, name)


def require_output(output: str) -> None:
    """UserError if `train.output` is a folder that cannot be written; a bucket says so when it is."""
    if "://" not in output:
        require_folder(output, "train.output")


def absolute_output(output: str) -> str:
    """`train.output` as it means the same in every folder."""
    return output if "://" in output else str(Path(output).absolute())
