"""Digests of models: equal for copies, and different for every other name and byte that is loaded."""

import shutil
from pathlib import Path

import pytest

from pipelines.models.digests import bundle_digest, code_digest, detector_digest, requirements_digest
from tests.pipelines.models.conftest import FIXTURE


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "vocabulary.json"])
def test_every_file_of_a_bundle_counts(tmp_path: Path, name: str):
    copy = shutil.copytree(FIXTURE / "bundle", tmp_path / "bundle")
    assert bundle_digest(copy) == bundle_digest(FIXTURE / "bundle")
    path = copy / name
    path.write_bytes(path.read_bytes() + b" ")
    assert bundle_digest(copy) != bundle_digest(FIXTURE / "bundle")


def test_every_name_and_byte_of_the_code_counts(tmp_path: Path):
    script, package = tmp_path / "pyfunc.py", tmp_path / "shan_line_0123"
    package.mkdir()
    script.write_text("import shan_line_0123")
    (package / "a.py").write_text("a = 1")
    seen = {code_digest(script, package)}
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_bytes(b"cached")
    assert code_digest(script, package) in seen
    (package / "a.py").rename(package / "b.py")
    seen.add(code_digest(script, package))
    (package / "b.py").write_text("a = 2")
    seen.add(code_digest(script, package))
    script.write_text("import os")
    seen.add(code_digest(script, package))
    other = tmp_path / "pandas.py"
    other.write_text("")
    seen.add(code_digest(script, package, other))
    assert len(seen) == 5


def test_every_file_of_a_detector_counts(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    seen = set()
    for name, text in [("detector.json", "{}"), ("detector.json", "[]"), ("weights/a", "1"), ("weights/b", "1")]:
        (tmp_path / name).write_text(text)
        seen.add(detector_digest(tmp_path))
    assert len(seen) == 4


def test_every_requirement_counts():
    assert len({requirements_digest(lines) for lines in ([], ["a==1"], ["a==1", "b==2"], ["a==1b==2"])}) == 4
