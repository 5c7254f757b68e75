"""Extracts, trains, evaluates, promotes and, with `--until index`, indexes as one resumable job.

    python -m jobs.pipeline --dataset dataset_flickr30k.json --photos flickr30k-images --name M --preset flickr30k
    python -m jobs.pipeline ... --dry-run            # what exists, what would run, and hours of the extraction
    python -m jobs.pipeline ... --until train
    python -m jobs.pipeline ... --until index        # also the search index of the champion

A stage whose result exists is not run again: re-run the same command after an interruption. With another detector, the
command extracts its features, trains on them and compares the new version with the champion, each on its own features.
If both do not have the same photos, it fails before it extracts; `--intersect` compares on those that both have.
"""

from typing import Any

import infra.tracking
from infra.errors import UserError
from infra.signals import when_interrupted
from jobs import cli, options
from jobs.config import Config
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.manifest import Manifest
from pipelines.extraction.estimate_report import estimate_extraction
from pipelines.features.feature_set import FeatureSet
from pipelines.pipeline.plan import pipeline_plan
from pipelines.pipeline.run import PipelineResult, Stopwatch, run_pipeline
from pipelines.pipeline.setup import STAGES, PipelineData, PipelineSetup, Stage, check_pipeline
from pipelines.training.train import training_summary

_SECTIONS: dict[Stage, tuple[str, ...]] = {
    "train": ("model", "train", "cache", "tracking", "register"),
    "evaluate": ("score",),
    "promote": ("promote",),
    "index": ("index",),
}
"""The first stage that reads a section."""


def _arguments(parser: Any) -> None:
    options.add_dataset(parser, required=True)
    options.add(parser, "--name", "The best epoch is registered as a new version.")
    parser.add_argument(
        "--until",
        type=Stage,
        default="promote",
        help="Last stage to run. `index` builds the search index of the champion; it is not the default, because it "
        "needs the extra `search` and space for every photo and caption.",
    )
    options.add(parser, "--champion-features")
    options.add(parser, "--intersect")
    options.add(parser, "--dry-run", "If photos are to be detected, a short probe estimates the hours.")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "pipeline",
        "Extract, train, evaluate, promote and, with --until index, index as one resumable job.",
        _arguments,
        (
            "extract",
            "estimate",
            "model",
            "train",
            "cache",
            "score",
            "promote",
            "index",
            "tracking",
            "register",
            "cluster",
        ),
        unread=lambda arguments: _unread(arguments.until),
    )
    dataset, name = options.dataset_files(arguments), arguments.name
    assert dataset is not None, "--dataset is required"
    manifest = import_dataset(dataset, arguments.photos, config.extract.output)
    setup = _setup(arguments, config)
    existing = check_pipeline(name, PipelineData.of(manifest, setup), setup)
    with when_interrupted("re-run the same command to continue"):
        print(pipeline_plan(manifest, name, setup, existing))
        if arguments.dry_run:
            print(_estimate(manifest, config), end="")
            return
        tracking = infra.tracking.connect(config.tracking) if setup.runs("train") else None
        watch = Stopwatch(setup.stages)
        result = run_pipeline(manifest, name, setup, tracking, watch)
    print(_summary(result, watch))


def _unread(until: Stage) -> set[str]:
    """Returns the sections that only stages after the last one read."""
    return {section for stage in STAGES[STAGES.index(until) + 1 :] for section in _SECTIONS[stage]}


def _setup(arguments: Any, config: Config) -> PipelineSetup:
    """Opens the champion's features. Raises UserError for an option that has no effect; warns of those of sections."""
    features = arguments.champion_features
    setup = PipelineSetup(
        config.extract,
        config.training(),
        config.score,
        config.promote,
        config.index,
        arguments.until,
        None if features is None else FeatureSet.open(features),
        arguments.intersect,
    )
    if not arguments.dry_run:
        options.warn_without_effect(arguments, {"estimate"}, "without --dry-run")
    options.warn_without_effect(arguments, _unread(arguments.until), f"with --until {arguments.until}")
    for option, given in (("--champion-features", features is not None), ("--intersect", arguments.intersect)):
        if given and not setup.runs("promote"):
            raise UserError(f"{option} has no effect with --until {arguments.until}; omit it")
    return setup


def _estimate(manifest: Manifest, config: Config) -> str:
    """Returns the estimate of what the extraction has to detect."""
    return f"\n{estimate_extraction(manifest, config.extract, config.estimate, config.cluster, keep=False)}\n"


def _summary(result: PipelineResult, watch: Stopwatch) -> str:
    """Returns a line for each result."""
    lines = {"features": result.features.pinned_uri}
    if result.trained is not None:
        lines["version"] = training_summary(result.trained)
    if result.champion is not None:
        lines["champion"] = str(result.champion)
    if result.index is not None:
        lines["index"] = result.index.uri
    return "\n".join(["", *(f"{name:9} {line}" for name, line in lines.items()), f"seconds   {watch.summary()}"])


if __name__ == "__main__":
    cli.run(main)
