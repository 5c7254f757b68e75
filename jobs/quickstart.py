"""The whole line once: photos -> shards -> training -> MLflow -> champion -> ranked photos, on this machine.

python -m jobs.quickstart                                                   # rendered scenes
python -m jobs.quickstart --dataset dataset_flickr8k.json --photos images   # your own
"""

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import infra.cluster
import infra.tracking
from infra.errors import UserError
from infra.redaction import redact
from infra.storage.open import require_folder
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from pipelines.evaluation.evaluate import evaluate, log_evaluation
from pipelines.evaluation.promote import check_champion, promote
from pipelines.evaluation.results import Evaluation, evaluation_tables
from pipelines.extraction.run import report as extraction_report
from pipelines.extraction.run import run_extraction
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from pipelines.reports.tables import markdown
from pipelines.training.run_directory import require_output
from pipelines.training.train import report as training_report
from pipelines.training.train import run_training

PAGE = Path("build/search.html")
STAGES = ("data set", "extract", "train", "evaluate", "promote", "search")


@dataclass
class Stopwatch:
    """Announces each stage and keeps its seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Times the body under one of `STAGES`."""
        print(f"\n[{STAGES.index(name) + 1}/{len(STAGES)}] {what}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"      {self.seconds[name]:.0f} s", flush=True)


def run_line(dataset: Path | None, photos: str | None, config: Config) -> None:
    """Runs every stage and prints what it made."""
    if (dataset is None) != (photos is None):
        raise UserError("--dataset and --photos go together; give both, or neither for the rendered scenes")
    # Whatever can be wrong with the input is found before anything is written.
    manifest = _import(dataset, photos) if dataset and photos else None
    infra.cluster.check_address(config.cluster)
    require_folder(config.extract.output, "extract.output")
    require_output(config.train.output)
    tracking = infra.tracking.connect(config.tracking)
    watch = Stopwatch()
    with watch.stage("data set", "data set"):
        manifest = manifest or _render_scenes(config.scenes)
        print(f"      {manifest.name}: {manifest.table.num_rows} photos in {manifest.root}")
    with watch.stage("extract", f"regions of {manifest.table.num_rows} photos on Ray Data"):
        extraction = run_extraction(manifest, config.extract, config.cluster)
        print(extraction_report(extraction))
    features, name = extraction.feature_set, f"shan-{manifest.name}"
    for split in SPLITS:
        features.split(split)
    check_champion(tracking, name, features)  # before training, which would be in vain
    with watch.stage("train", f"SHAN on Ray Train, {config.train.num_workers} workers"):
        trained = run_training(features, name, config.training(), tracking, resume=None)
        print(training_report(trained))
    with watch.stage("evaluate", "the new version on the test split"):
        evaluation = _evaluate(tracking, name, trained.version, trained.run_id, features, config)
        print(markdown(evaluation_tables([evaluation])))
    with watch.stage("promote", "the better version becomes champion"):
        decision = promote(tracking, name, trained.version, features, config.promote, config.score, config.cluster)
        print(decision)
    uri = f"models:/{name}/{trained.version}" if decision.champion is None else f"models:/{name}@champion"
    with watch.stage("search", f"a fresh process loads {uri} and answers five queries"):
        _search_in_fresh_process(uri, features, tracking)
    tracking.log_metrics(trained.run_id, {f"seconds_{k.replace(' ', '_')}": v for k, v in watch.seconds.items()})
    print(_summary(watch, features, evaluation, str(decision), tracking))


def _import(dataset: Path, photos: str) -> Manifest:
    """The manifest of a data set on which the whole line can run."""
    manifest = import_dataset(dataset, photos)
    for split in SPLITS:
        if next(manifest.photos(split), None) is None:
            raise UserError(f"{dataset}: no photo is in split '{split}'; the quickstart needs train, val and test")
    return manifest


def _render_scenes(config: ScenesConfig) -> Manifest:
    """The scenes of a config have a folder of their own, so that other settings never meet a folder in use."""
    name = hashlib.sha256(json.dumps(config.as_json(), sort_keys=True).encode()).hexdigest()[:12]
    folder = Path("build/scenes").absolute() / name
    with tqdm(total=config.train + config.val + config.test, desc="render", unit="scene") as bar:
        return import_dataset(generate(config, folder, bar.update), folder / "photos")


def _evaluate(
    tracking: Tracking, name: str, version: int, run_id: str, features: FeatureSet, config: Config
) -> Evaluation:
    uri = f"models:/{name}/{version}"
    evaluation = evaluate(
        load_matcher(tracking, uri, features), uri, features.split("test"), config.score, config.cluster
    )
    log_evaluation(tracking, run_id, evaluation)
    return evaluation


def _search_in_fresh_process(uri: str, features: FeatureSet, tracking: Tracking) -> None:
    """Five captions of test photos as queries, so that the right answer is known: `jobs.search` marks it."""
    captions = features.split("test").captions
    queries = [captions[i] for i in np.linspace(0, len(captions) - 1, num=5, dtype=int)]
    command = [
        sys.executable,
        "-m",
        "jobs.search",
        f"--model={uri}",
        f"--features={features.uri}",
    ]
    command += [f"--tracking.uri={tracking.uri}", "--top=3", f"--page={PAGE}", "--", *queries]
    subprocess.run(command, check=True)


def _summary(watch: Stopwatch, features: FeatureSet, evaluation: Evaluation, decision: str, tracking: Tracking) -> str:
    times = ", ".join(f"{name} {seconds:.0f}" for name, seconds in watch.seconds.items())
    return "\n".join(
        [
            "\nDone.",
            markdown(evaluation_tables([evaluation])),
            f"\nseconds   {times}; {sum(watch.seconds.values()):.0f} in all",
            f"features  {features.uri}",
            f"model     {decision}",
            f"page      {PAGE.absolute()}",
            f"runs      {_open_mlflow(tracking)}",
        ]
    )


def _open_mlflow(tracking: Tracking) -> str:
    """The one command, or the address, that shows the runs."""
    if not tracking.uri.startswith("sqlite"):
        return redact(tracking.uri)
    mlflow = Path(sys.executable).parent / "mlflow"
    return f"{shlex.quote(str(mlflow))} ui --workers 1 --backend-store-uri {shlex.quote(tracking.uri)}"


def _arguments(parser: Any) -> None:
    parser.add_argument("--dataset", type=Path, help="Karpathy JSON, or a table by URI; none: rendered scenes")
    parser.add_argument("--photos", type=str, help="folder, s3:// prefix or tar of its photos")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "quickstart", "The whole line once.", _arguments, tuple(Config.__dataclass_fields__), preset="quickstart"
    )
    run_line(arguments.dataset, arguments.photos, config)


if __name__ == "__main__":
    cli.run(main)
