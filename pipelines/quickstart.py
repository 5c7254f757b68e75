"""The whole pipeline on one machine: data set, extraction, training, evaluation, promotion, search.

The top layer of the pipelines: it calls each stage as the commands do, prints its report and measures its seconds.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

import infra.cluster
import infra.tracking
from infra.errors import UserError
from infra.redaction import redact
from infra.source_tree import SOURCE_ROOT
from infra.storage.open import require_folder
from infra.tracking import Tracking
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.manifest import LEARNING_SPLITS, Manifest
from pipelines.datasets.scenes.captions import CAPTIONS
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import NAME as SCENES
from pipelines.datasets.scenes.generate import generate
from pipelines.detectors import registry
from pipelines.evaluation.evaluate import evaluate, log_evaluation
from pipelines.evaluation.promote import ComparisonData, check_champion, promote
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import evaluation_tables
from pipelines.evaluation.score import ScoreConfig, driver_device
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.missing_photos import check_missing_photos
from pipelines.extraction.run import extract_with_progress_bar, extraction_summary
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from pipelines.reports.tables import markdown
from pipelines.training.claim import require_dataset_of_model
from pipelines.training.driver import connect_cluster
from pipelines.training.epoch_size import steps_per_epoch
from pipelines.training.identity import settings_identity
from pipelines.training.setup import TrainingSetup
from pipelines.training.train import run_training, training_summary

PAGE = Path("build/search.html")
"""HTML page of the search results."""
STAGES = ("data set", "extract", "train", "evaluate", "promote", "search")


@dataclass(frozen=True)
class QuickstartSetup:
    """The config sections that the stages read."""

    scenes: ScenesConfig
    """Used if no data set is given."""
    extract: ExtractConfig
    training: TrainingSetup
    """Its tracking store and cluster serve all stages."""
    score: ScoreConfig
    promote: PromoteConfig


@dataclass
class _Stopwatch:
    """Prints the heading of each stage and measures its seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, heading: str) -> Iterator[None]:
        """Measures the body as one of STAGES."""
        print(f"\n[{STAGES.index(name) + 1}/{len(STAGES)}] {heading}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"      {self.seconds[name]:.0f} s", flush=True)


def run_quickstart(dataset: DatasetFiles | None, photos: str | None, setup: QuickstartSetup) -> None:
    """Runs every stage, prints what each produced, and logs the seconds of the stages to the training's run.

    `dataset` and `photos` are as for `jobs.extract`; without them, scenes are rendered. Raises UserError for invalid
    input, also for what the training would refuse, before anything is written.
    """
    manifest = _import(dataset, photos)
    training, cluster = setup.training, setup.training.cluster
    _require_trainable(manifest, setup)
    infra.cluster.check_address(cluster)
    require_folder(setup.extract.output, "extract.output")
    require_folder(training.train.output, "train.output")
    tracking = infra.tracking.connect(training.tracking)
    dataset_name = manifest.name if manifest else SCENES
    name = f"shan-{dataset_name}"
    _require_comparable(tracking, name, dataset_name, setup.extract)
    if training.train.use_gpu:
        connect_cluster(training)  # a missing GPU is an error before the extraction
    watch = _Stopwatch()
    with watch.stage("data set", "data set"):
        manifest = manifest or _render_scenes(setup.scenes)
        print(f"      {manifest.name}: {manifest.table.num_rows} photos in {manifest.root}")
    with watch.stage("extract", f"regions of {manifest.table.num_rows} photos on Ray Data"):
        extraction = extract_with_progress_bar(manifest, setup.extract, cluster)
        print(extraction_summary(extraction))
    features = extraction.feature_set
    for split in LEARNING_SPLITS:
        features.captioned(split)
    with watch.stage("train", f"SHAN on Ray Train, {training.train.num_workers} workers"):
        trained = run_training(features, name, training, tracking, resume=None)
        print(training_summary(trained))
    with watch.stage("evaluate", "the new version on the test split"):
        uri = f"models:/{name}/{trained.version}"
        device = driver_device("auto", setup.score)
        matcher = load_matcher(tracking, uri, features, device)
        evaluation = evaluate(matcher, uri, features.captioned("test"), setup.score, cluster)
        log_evaluation(tracking, trained.run_id, features, evaluation)
        metrics = markdown(evaluation_tables([evaluation]))
        print(metrics)
    with watch.stage("promote", "the better version becomes champion"):
        decision = promote(
            tracking,
            name,
            trained.version,
            ComparisonData(features),
            setup.promote,
            setup.score,
            cluster,
            device=device,
        )
        print(decision)
    uri = f"models:/{name}/{trained.version}" if decision.champion is None else f"models:/{name}@champion"
    with watch.stage("search", f"a fresh process loads {uri} and answers five queries"):
        _search_in_fresh_process(uri, features, tracking)
    tracking.log_metrics(trained.run_id, {f"seconds_{k.replace(' ', '_')}": v for k, v in watch.seconds.items()})
    print("\nDone.", metrics, _summary(watch, features, str(decision), tracking), sep="\n")


def _import(dataset: DatasetFiles | None, photos: str | None) -> Manifest | None:
    """Returns the manifest of the given data set, which needs photos in every split; None for rendered scenes."""
    if dataset is None:
        return None
    manifest = import_dataset(dataset, photos)
    for split in LEARNING_SPLITS:
        if not any(photo.captions for photo in manifest.photos(split)):
            raise UserError(
                f"{dataset}: no photo with captions is in split '{split}'; the quickstart needs train, val and test"
            )
    return manifest


def _require_trainable(manifest: Manifest | None, setup: QuickstartSetup) -> None:
    """Raises UserError if the training would refuse the data set, the width of the features or a file."""
    if manifest is None:
        counts, subject = np.full(setup.scenes.train, CAPTIONS), f"scenes.train={setup.scenes.train}"
    else:
        check_missing_photos(manifest, setup.extract.max_rejected)
        counts = np.array([len(photo.captions) for photo in manifest.photos("train") if photo.captions])
        subject = f"split 'train' of data set {manifest.name}"
    steps_per_epoch(counts, setup.training.train, subject)
    width, region_dim = setup.extract.spec().feature_dim, setup.training.model.region_dim
    if width != region_dim:
        raise UserError(
            f"extract.detector {setup.extract.detector} gives features of width {width}, but model.region_dim is "
            f"{region_dim}; set model.region_dim to {width}"
        )
    settings_identity(setup.training)  # reads the files that it names


def _require_comparable(tracking: Tracking, name: str, dataset: str, extract: ExtractConfig) -> None:
    """Raises UserError if a new version could not be compared with the versions that the registered model has."""
    require_dataset_of_model(tracking, name, dataset)
    check_champion(tracking, name, registry.fingerprint(extract.detector, extract.spec()))


def _render_scenes(config: ScenesConfig) -> Manifest:
    """Renders scenes into a folder that is named by a hash of their settings."""
    name = hashlib.sha256(json.dumps(config.as_json(), sort_keys=True).encode()).hexdigest()[:12]
    folder = Path("build/scenes").absolute() / name
    with tqdm(total=config.train + config.val + config.test, desc="render", unit="scene") as bar:
        return import_dataset(generate(config, folder, bar.update), folder / "photos")


def _search_in_fresh_process(uri: str, features: FeatureSet, tracking: Tracking) -> None:
    """Runs `jobs.search` with five captions of test photos; its output marks the right result of each."""
    captions = features.split("test").captions
    queries = [captions[i] for i in np.linspace(0, len(captions) - 1, num=5, dtype=int)]
    options = [f"--model={uri}", f"--features={features.uri}", f"--tracking.uri={tracking.uri}"]
    # -P and PYTHONPATH: the current folder may contain packages with the names of this project's.
    path = os.pathsep.join(filter(None, [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-P", "-m", "jobs.search", *options, "--top=3", f"--page={PAGE}", "--", *queries]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def _summary(watch: _Stopwatch, features: FeatureSet, decision: str, tracking: Tracking) -> str:
    times = ", ".join(f"{name} {seconds:.0f}" for name, seconds in watch.seconds.items())
    return "\n".join(
        [
            f"\nseconds   {times}; {sum(watch.seconds.values()):.0f} in all",
            f"features  {features.uri}",
            f"model     {decision}",
            f"page      {PAGE.absolute()}",
            f"runs      {_mlflow_command(tracking)}",
        ]
    )


def _mlflow_command(tracking: Tracking) -> str:
    """Returns the command that shows the runs of a SQLite file, or the address of a server."""
    if not tracking.is_file:
        return redact(tracking.uri)
    mlflow = Path(sys.executable).parent / "mlflow"
    return f"{shlex.quote(str(mlflow))} ui --workers 1 --backend-store-uri {shlex.quote(tracking.mlflow_uri)}"
