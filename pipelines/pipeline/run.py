"""Runs the stages of a pipeline: extract -> train -> evaluate -> promote -> index.

Each stage keeps its result and is not run again where it exists, so the same command resumes after a kill. With another
detector or other settings it runs what these change, and compares the new version with the champion of the old ones.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from infra.log import event
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.evaluate import evaluate, evaluation_text, log_evaluation
from pipelines.evaluation.promote import ChampionState, earlier_decision, promote
from pipelines.evaluation.score import driver_device
from pipelines.extraction.run import extract_with_progress_bar, extraction_summary
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from pipelines.pipeline.setup import PipelineSetup, require_output_stores
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_commands import build_text, build_with_progress_bar, load_version
from pipelines.training.inputs import find_run_directory
from pipelines.training.train import TrainedModel, run_training, training_summary


@dataclass
class Stopwatch:
    """Prints the heading of each stage and measures its seconds."""

    stages: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, heading: str) -> Iterator[None]:
        """Measures the body as one of `stages`."""
        print(f"\n[{self.stages.index(name) + 1}/{len(self.stages)}] {heading}", flush=True)
        event("stage_started", f"{name}: {heading}", stage=name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"      {self.seconds[name]:.0f} s", flush=True)
        event("stage_finished", f"{name}: {self.seconds[name]:.0f} s", stage=name, seconds=round(self.seconds[name], 1))

    def summary(self) -> str:
        """Returns the seconds of the stages in one line."""
        times = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        return f"{times}; {sum(self.seconds.values()):.0f} in all"


@dataclass(frozen=True)
class PipelineResult:
    """The results of the stages that ran."""

    features: FeatureSet
    trained: TrainedModel | None = None
    champion: ChampionState | None = None
    index: IndexBuild | None = None


def run_pipeline(
    manifest: Manifest, name: str, setup: PipelineSetup, tracking: Tracking | None, watch: Stopwatch
) -> PipelineResult:
    """Runs the stages up to `setup.until` and prints what each produced. Raises as the stages do.

    `tracking` may be None if `setup.until` is `extract`.
    """
    training = setup.training
    with watch.stage("extract", f"regions of {manifest.table.num_rows} photos on Ray Data"):
        require = partial(require_output_stores, setup)
        extraction = extract_with_progress_bar(manifest, setup.extract, training.cluster, require)
        print(extraction_summary(extraction))
    features = extraction.feature_set
    for split in setup.splits():
        captioned = sum(bool(photo.captions) for photo in manifest.photos(split))
        if captioned <= sum(shard.rejected for shard in features.index.shards if shard.split == split):
            features.captioned(split)  # reads all receipts; UserError if every photo with captions was rejected
    if not setup.runs("train"):
        return PipelineResult(features)
    assert tracking is not None, "every stage but the extraction needs it"
    if not find_run_directory(features, name, training).is_finished():  # else nothing may be left to write
        require_output_stores(setup)
        if setup.runs("promote"):
            setup.comparison(features).check(tracking, name, setup.promote.split)
    with watch.stage("train", f"{training.model.matcher.upper()} on Ray Train, {training.train.num_workers} workers"):
        trained = run_training(features, name, training, tracking, resume=None)
        print(training_summary(trained))
    if not setup.runs("evaluate"):
        return PipelineResult(features, trained)
    with watch.stage("evaluate", "the new version on the test split"):
        print(_evaluate(trained, features, setup, tracking))
    if not setup.runs("promote"):
        return PipelineResult(features, trained)
    with watch.stage("promote", "the better version becomes champion"):
        champion = _promote(trained, features, setup, tracking)
        print(champion)
    if not setup.runs("index"):
        return PipelineResult(features, trained, champion)
    with watch.stage("index", "the champion encodes photos and captions for search"):
        index = _index(champion, features, setup, tracking)
        print("no champion, so nothing is indexed" if index is None else build_text(index))
    return PipelineResult(features, trained, champion, index)


def _evaluate(trained: TrainedModel, features: FeatureSet, setup: PipelineSetup, tracking: Tracking) -> str:
    """Returns the tables of the test split, which are logged to the training's run once."""
    if (logged := evaluation_text(tracking, trained.run_id, "test", setup.score.precision)) is not None:
        return logged
    uri = f"models:/{trained.name}/{trained.version}"
    matcher = load_matcher(tracking, uri, features, driver_device("auto", setup.score))
    evaluation = evaluate(matcher, uri, features.captioned("test"), setup.score, setup.training.cluster)
    return log_evaluation(tracking, trained.run_id, features, evaluation, setup.score.precision)


def _promote(trained: TrainedModel, features: FeatureSet, setup: PipelineSetup, tracking: Tracking) -> ChampionState:
    data = setup.comparison(features)
    found = earlier_decision(tracking, trained.name, trained.version, data, setup.promote, setup.score)
    return found or promote(
        tracking,
        trained.name,
        trained.version,
        data,
        setup.promote,
        setup.score,
        setup.training.cluster,
        device=driver_device("auto", setup.score),
    )


def _index(
    champion: ChampionState, features: FeatureSet, setup: PipelineSetup, tracking: Tracking
) -> IndexBuild | None:
    """Indexes the photos by the champion, on features of its own detector. Returns None if no version is champion."""
    if champion.champion is None:
        return None
    model = load_version(f"models:/{champion.name}/{champion.champion}", setup.training.tracking)
    own = setup.comparison(features).of_champion(tracking, champion.name, champion.champion)
    return build_with_progress_bar(model, [own], setup.index, setup.training.cluster)
