"""The code that registered versions carry: each runs its own, beside the other versions and the consumer's packages."""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.log import event, recent
from infra.source_tree import PACKAGES
from pipelines.models.carried_code import carry_code
from pipelines.models.package import package_model
from shan_model.bundle import load_bundle
from tests.pipelines.models.conftest import Plugin
from tests.support import ROOT
from tests.support.registered import (
    embedded_detector,
    imported_features,
    matcher,
    run_consumer,
    save_package,
    save_version,
    tiny_network,
)
from tests.test_imports import imports

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "model"
CONSUMER = """
import json, sys
import infra, jobs, pipelines, shan_model
import mlflow, numpy, pandas
regions = numpy.load(sys.argv[1])[:1]
models = [mlflow.pyfunc.load_model(path) for path in sys.argv[2:]]
frame = pandas.DataFrame({"regions": list(regions), "caption": ["a dog"]})
scores = [model.predict(frame)[0] for model in [*models, *models[::-1]]]
import infra.own
own = [module.OWN for module in (infra, infra.own, jobs, pipelines, shan_model)]
print(json.dumps([scores, own]))
"""
WITH_IMAGES = """
import json, shutil, sys, time
import mlflow, numpy, pandas, torch
frame = pandas.DataFrame({"image": [numpy.full((30, 40, 3), 90, numpy.uint8)], "caption": ["a dog"]})
embedded, copy, plugin = sys.argv[1:]
started = time.process_time()
mlflow.pyfunc.load_model(embedded)
seconds = time.process_time() - started  # of the CPU: other processes do not count
shutil.rmtree(embedded)
scores = [mlflow.pyfunc.load_model(path).predict(frame)[0] for path in (copy, plugin)]
print(json.dumps([seconds, scores, [name for name in sys.modules if name.startswith("striped")]]))
"""


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Returns a copy of the project whose task `score` adds 1."""
    root = tmp_path / "changed"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    module = root / "pipelines" / "models" / "tasks.py"
    source = module.read_text()
    scored = "else value for row, value in"
    assert scored in source
    module.write_text(source.replace(scored, "else value + 1 for row, value in"))
    return root


def save(folder: Path, root: Path) -> str:
    """Saves the fixture's model with the code of the project in `root`, as a registered version is stored."""
    bundle = FIXTURE / "bundle"
    package = package_model(bundle, load_bundle(bundle).config, {}, imported_features(), folder / "parts")
    code = carry_code(folder / "code", roots=dict.fromkeys(PACKAGES, root))
    return str(save_package(replace(package, code=code.script, package=code.package), folder / "model"))


def test_versions_in_one_process_run_their_own_code(changed: Path, tmp_path: Path):
    models = [save(tmp_path / "first", ROOT), save(tmp_path / "second", changed)]
    consumer = tmp_path / "consumer"
    for package in PACKAGES:
        (consumer / package).mkdir(parents=True)
        (consumer / package / "__init__.py").write_text("OWN = True\n")
    (consumer / "infra" / "own.py").write_text("OWN = True\n")
    output = run_consumer(consumer, CONSUMER, str(FIXTURE / "regions.npy"), *models)
    (first, second, second_again, first_again), own = json.loads(output.splitlines()[-1])
    assert (first, second) == (first_again, second_again)
    np.testing.assert_allclose(second, first + 1, rtol=1e-6)
    assert all(own)


def test_a_job_keeps_its_log_beside_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = carry_code(tmp_path).package
    for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
        monkeypatch.delitem(sys.modules, name)  # another test may have loaded a model, whose folder is deleted
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = importlib.import_module(f"{package.name}.infra.log")
    event("of_the_job", "from the job")
    copy.event("of_the_model", "from the model")
    assert recent()[-2:] == ["from the job", "from the model"]


@pytest.mark.long
def test_versions_load_within_3_s_and_detect(plugin: Plugin, tmp_path: Path):
    image = pd.DataFrame({"image": [np.full((30, 40, 3), 90, np.uint8)], "caption": ["a dog"]})
    networks, detectors = (tiny_network(), tiny_network(8)), (embedded_detector(), plugin.package("carry"))
    here = (
        matcher(tmp_path / "here0", networks[0], embedded_detector()),
        matcher(tmp_path / "here1", networks[1], plugin.package("reference")),
    )
    expected = [model.predict(image, None)[0] for model in here]
    embedded, striped = (
        save_version(tmp_path / str(n), network, detector)
        for n, (network, detector) in enumerate(zip(networks, detectors, strict=True))
    )
    # The process deletes the first copy: modules that are imported late must come from the second.
    copy = shutil.copytree(embedded, tmp_path / "copy")
    plugin.folder.rename(tmp_path / "gone")
    output = run_consumer(tmp_path, WITH_IMAGES, str(embedded), str(copy), str(striped))
    seconds, scores, modules_of_the_plugin = json.loads(output.splitlines()[-1])
    assert seconds < 3
    assert scores == pytest.approx(expected, abs=1e-5)
    assert not modules_of_the_plugin


def test_the_name_of_the_package_depends_on_its_content_only(changed: Path, tmp_path: Path):
    roots = [dict.fromkeys(PACKAGES, root) for root in (ROOT, ROOT, changed)]
    names = [carry_code(tmp_path / str(n), roots=each).package.name for n, each in enumerate(roots)]
    assert names[0] == names[1] != names[2]


def test_the_package_has_every_module_it_imports_and_no_other(tmp_path: Path):
    code = carry_code(tmp_path)
    script, package = code.script, code.package
    paths = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    assert {"shan_model/native.py", "shan_model/baselines/scan.py", "pipelines/models/matcher.py"} <= paths.keys()
    assert not [name for name in paths if name.startswith(("jobs/", "pipelines/training/", "pipelines/extraction/"))]
    assert (package / "shan_model" / "kernels.cpp").read_bytes() == (ROOT / "shan_model" / "kernels.cpp").read_bytes()
    third_party = {"torch", "safetensors", "numpy", "pandas", "mlflow", "transformers", "PIL", "boto3"}
    assert third_party <= code.third_party.keys()
    modules = {".".join([package.name, *Path(name).with_suffix("").parts]).removesuffix(".__init__") for name in paths}
    for path in [script, *paths.values()]:
        name = ".".join(path.relative_to(tmp_path).parent.parts)
        found = imports(path.read_text(), name)
        assert not {module.split(".")[0] for module in found} & set(PACKAGES), path
        own = {module for module in found if module.startswith(package.name)}
        assert all(module in modules or module.rpartition(".")[0] in modules for module in own), path
