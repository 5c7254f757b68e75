"""Opening stores by URI, and checks of output paths."""

import os
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.open import open_store, require_durable_path, require_folder, require_writable_file
from tests.support.bad_stores import closed


def test_uris_of_stores(tmp_path: Path):
    assert open_store(f"file://{tmp_path}").uri == str(tmp_path)
    assert open_store(str(tmp_path)).uri == str(tmp_path)
    assert open_store("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert open_store("s3://bucket").uri == "s3://bucket"
    with pytest.raises(UserError, match=r"is not supported; give a folder or s3://"):
        open_store("gopher://x/y")
    with pytest.raises(UserError, match=r"^s3:/bucket/x: has one slash after the scheme; give a URI as text"):
        open_store("s3:/bucket/x")


def test_names_keep_characters_that_mean_something_in_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    name = "a b%20c?d#e{f}"
    assert open_store(name).uri == open_store((tmp_path / name).as_uri()).uri == f"{tmp_path}/{name}"
    assert open_store(f"s3://bucket/{name}").uri == f"s3://bucket/{name}"
    open_store(name).put_if_absent("x", b"1")
    assert (tmp_path / name / "x").read_bytes() == b"1"


def test_a_relative_path_in_a_submitted_job_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray deletes the folder in which a submitted job starts."""
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    folder.mkdir(parents=True)
    require_durable_path("build/features", "extract.output")
    monkeypatch.chdir(folder)
    for durable in ("s3://bucket/features", str(tmp_path)):
        require_durable_path(durable, "extract.output")
    for lost in ("build/features", f"file://{folder}/features"):
        with pytest.raises(UserError, match=rf"extract\.output '{lost}' would be deleted"):
            require_durable_path(lost, "extract.output")


def test_a_device_or_pipe_is_refused_as_a_page(tmp_path: Path):
    """As root, its directory entry would be replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/null"), pipe):
        with pytest.raises(UserError, match=f"^--page '{path}' is a device, pipe or socket; give a file$"):
            require_writable_file(path, "--page")
    require_writable_file(tmp_path / "page.html", "--page")


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    require_folder(tmp_path / "a" / "b", "--page")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match=r"--page '.*/file/a' cannot be written \(.*/file is not a writable folder\)"):
        require_folder(tmp_path / "file" / "a", "--page")
    require_folder("s3://bucket/a", "train.output")  # checked at the first write
    (tmp_path / "closed").mkdir()
    with (
        closed(tmp_path / "closed"),
        pytest.raises(UserError, match=r"--page '.*/closed/a/b' cannot be written \(.* is"),
    ):
        require_folder(tmp_path / "closed" / "a" / "b", "--page")
