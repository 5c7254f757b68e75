"""The pipeline on one machine: a data set, its stages, and a search by the model that they register.

The top layer of the pipelines.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

import infra.tracking
from infra.errors import UserError
from infra.log import is_json
from infra.progress import ProgressBar
from infra.redaction import redact
from infra.source_tree import SOURCE_ROOT
from infra.tracking import Tracking
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.scenes.captions import CAPTIONS
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import NAME as SCENES
from pipelines.datasets.scenes.generate import generate
from pipelines.features.feature_set import FeatureSet
from pipelines.pipeline.run import PipelineResult, Stopwatch, run_pipeline
from pipelines.pipeline.setup import PipelineData, PipelineSetup, check_pipeline

PAGE = Path("build/search.html")
"""HTML page of the search results."""


def run_quickstart(
    dataset: DatasetFiles | None, photos: str | None, scenes: ScenesConfig, setup: PipelineSetup
) -> None:
    """Runs every stage, and prints what each produced and how long it took.

    `dataset` and `photos` are as for `jobs.extract`; without them, scenes are rendered. Raises UserError for invalid
    input, also for what a stage would refuse, before anything is written.
    """
    manifest = import_dataset(dataset, photos, setup.extract.output) if dataset is not None else None
    data = PipelineData.of(manifest, setup) if manifest else _rendered(scenes)
    name = f"shan-{data.name}"
    check_pipeline(name, data, setup)
    tracking = infra.tracking.connect(setup.training.tracking)
    watch = Stopwatch(("data set", *setup.stages, "search"))
    with watch.stage("data set", "data set"):
        manifest = manifest or _render_scenes(scenes)
        print(f"      {manifest.name}: {manifest.table.num_rows} photos in {manifest.root}")
    result = run_pipeline(manifest, name, setup, tracking, watch)
    assert result.trained is not None
    assert result.champion is not None
    version = result.champion.champion
    uri = f"models:/{name}/{result.trained.version}" if version is None else f"models:/{name}@champion"
    with watch.stage("search", f"a fresh process loads {uri} and runs five queries"):
        _search_in_fresh_process(uri, result.features, tracking)
    print(_summary(watch, result, tracking))


def _rendered(scenes: ScenesConfig) -> PipelineData:
    return PipelineData(SCENES, f"scenes.train={scenes.train}", np.full(scenes.train, CAPTIONS))


def _render_scenes(config: ScenesConfig) -> Manifest:
    """Renders scenes into a folder that is named by a hash of their settings."""
    name = hashlib.sha256(json.dumps(config.as_json(), sort_keys=True).encode()).hexdigest()[:12]
    folder = Path("build/scenes").absolute() / name
    with ProgressBar(total=config.train + config.val + config.test, desc="render", unit="scene") as bar:
        return import_dataset(generate(config, folder, bar.update), folder / "photos")


def _search_in_fresh_process(uri: str, features: FeatureSet, tracking: Tracking) -> None:
    """Runs `jobs.search` with five captions of test photos; its output marks the right result of each.

    Raises UserError if it fails; it has printed its own error.
    """
    captions = features.split("test").captions
    queries = [captions[i] for i in np.linspace(0, len(captions) - 1, num=5, dtype=int)]
    options = [f"--model={uri}", f"--features={features.uri}", f"--tracking.uri={tracking.uri}"]
    # -P and PYTHONPATH: the current folder may contain packages with the names of this project's.
    path = os.pathsep.join(filter(None, [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]))
    options += [f"--log-format={'json' if is_json() else 'text'}"]
    command = [sys.executable, "-P", "-m", "jobs.search", *options, "--top=3", f"--page={PAGE}", "--", *queries]
    code = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path}).returncode
    if code:
        raise UserError(
            f"the search, the last stage, ended with exit code {code}; fix the error above, then re-run the same "
            "command: the other stages are complete"
        )


def _summary(watch: Stopwatch, result: PipelineResult, tracking: Tracking) -> str:
    return "\n".join(
        [
            "\nDone.",
            f"\nseconds   {watch.summary()}",
            f"features  {result.features.uri}",
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
