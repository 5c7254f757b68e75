"""The code that registered versions carry: each runs its own, beside the other versions and the consumer's packages."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.source_tree import PACKAGES
from pipelines.models.carried_code import carry_code
from pipelines.models.package import package_model
from tests.support import ROOT
from tests.test_imports import imports

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "model"
PYFUNC = ROOT / "pipelines" / "models" / "pyfunc.py"
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


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Returns a copy of the project whose network adds 1 to every score."""
    root = tmp_path / "changed"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    module = root / "shan_model" / "model.py"
    source = module.read_text()
    scored = "return self.alignment(self.encode_photos(regions_BRF), self.encode_captions(captions))"
    assert scored in source
    module.write_text(source.replace(scored, f"{scored} + 1"))
    return root


def save(folder: Path, root: Path) -> str:
    """Saves the fixture's model with the code of the project in `root`, as a registered version is stored."""
    import mlflow

    package = package_model(FIXTURE / "bundle", {}, "gru", folder / "unused")
    code = carry_code(PYFUNC, folder / "code", roots=dict.fromkeys(PACKAGES, root))
    package = replace(package, code=code.script, package=code.package)
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        python_model=str(package.code),
        code_paths=[str(package.package)],
        artifacts={key: str(path) for key, path in package.artifacts.items()},
        signature=package.signature,
        pip_requirements=package.requirements,
    )
    return str(folder / "model")


def test_versions_in_one_process_run_their_own_code(changed: Path, tmp_path: Path):
    models = [save(tmp_path / "first", ROOT), save(tmp_path / "second", changed)]
    consumer = tmp_path / "consumer"
    for package in PACKAGES:
        (consumer / package).mkdir(parents=True)
        (consumer / package / "__init__.py").write_text("OWN = True\n")
    (consumer / "infra" / "own.py").write_text("OWN = True\n")
    result = subprocess.run(
        [sys.executable, "-c", CONSUMER, str(FIXTURE / "regions.npy"), *models],
        cwd=consumer,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (first, second, second_again, first_again), own = json.loads(result.stdout.splitlines()[-1])
    assert (first, second) == (first_again, second_again)
    np.testing.assert_allclose(second, first + 1, rtol=1e-6)
    assert all(own)


def test_the_name_of_the_package_depends_on_its_content_only(changed: Path, tmp_path: Path):
    roots = [dict.fromkeys(PACKAGES, root) for root in (ROOT, ROOT, changed)]
    names = [carry_code(PYFUNC, tmp_path / str(n), roots=each).package.name for n, each in enumerate(roots)]
    assert names[0] == names[1] != names[2]


def test_the_package_has_every_module_it_imports_and_no_other(tmp_path: Path):
    code = carry_code(PYFUNC, tmp_path)
    script, package = code.script, code.package
    paths = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    assert {"shan_model/native.py", "shan_model/baselines/scan.py", "pipelines/models/matcher.py"} <= paths.keys()
    assert not [name for name in paths if name.startswith(("jobs/", "pipelines/training/", "pipelines/extraction/"))]
    assert (package / "shan_model" / "kernels.cpp").read_bytes() == (ROOT / "shan_model" / "kernels.cpp").read_bytes()
    assert {"torch", "safetensors", "numpy", "pandas", "mlflow", "transformers"} == code.third_party
    modules = {".".join([package.name, *Path(name).with_suffix("").parts]).removesuffix(".__init__") for name in paths}
    for path in [script, *paths.values()]:
        name = ".".join(path.relative_to(tmp_path).parent.parts)
        found = imports(path.read_text(), name)
        assert not {module.split(".")[0] for module in found} & set(PACKAGES), path
        own = {module for module in found if module.startswith(package.name)}
        assert all(module in modules or module.rpartition(".")[0] in modules for module in own), path
