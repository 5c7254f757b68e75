"""The rule for paths and URIs: `~`, relative paths, and characters that mean something in a URI."""

import re
from pathlib import Path

import pytest

from infra.errors import AccessDeniedError, UserError
from infra.paths import absolute, exists, is_dir, is_file, local_path
from tests.support.bad_stores import closed
from tests.test_imports import MODULES

NAME = "a b%20c?d#e"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("x", "{}/cwd/x"),
        (".", "{}/cwd"),
        ("../x", "{}/cwd/../x"),
        ("~", "{}/home"),
        ("~/x", "{}/home/x"),
        ("x/~", "{}/cwd/x/~"),
        (NAME, f"{{}}/cwd/{NAME}"),
        ("/data/s3://x", "/data/s3:/x"),
        ("//data/x", "/data/x"),
        ("file:///a%20b%2520c", "/a b%20c"),
        ("file:///a?b#c", "/a?b#c"),
        ("file://localhost/a", "/a"),
        (f"s3://bucket/{NAME}", f"s3://bucket/{NAME}"),
        ("http://host/a%20b", "http://host/a%20b"),
    ],
)
def test_locations(tmp_path: Path, given: str, wanted: str):
    found = absolute(given)
    assert found == wanted.format(tmp_path)
    assert absolute(found) == found  # configs that are copied stay the same


def test_local_paths(tmp_path: Path):
    assert local_path(Path("~/x")) == tmp_path / "home" / "x"
    assert local_path((tmp_path / NAME).as_uri()) == tmp_path / NAME
    for uri in ("s3://bucket/x", Path("s3://bucket/x"), "http://me:secret@host/x"):
        with pytest.raises(UserError, match=r"^--page '.*' is a URI; give a path on this machine$") as caught:
            local_path(uri, "--page")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "^train.output is empty; give a path or a URI$"),
        ("a\0b", r"^train.output 'a\\x00b' contains a NUL character; remove it$"),
        ("x/" + "n" * 256, "^train.output 'x/n+...' has a name of more than 255 bytes; shorten it$"),
        ("é" * 128, "has a name of more than 255 bytes"),
        ("\ud800.jpg", r"^train.output '\\ud800.jpg' is not valid Unicode; correct it$"),
        ("~nobody-of-this-name/x", "^train.output '~nobody-of-this-name/x': this user has no home folder; correct"),
        ("file://build/x", "^train.output 'file://build/x' is not an absolute file URI; write file:///<path>, or a"),
        ("file://~/x", "is not an absolute file URI"),
    ],
)
def test_what_is_not_a_location(given: str, message: str):
    with pytest.raises(UserError, match=message):
        absolute(given, "train.output")


def test_what_a_path_is(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for name, expected in (("cwd", (True, False, True)), ("file", (True, True, False))):
        assert (exists(tmp_path / name), is_file(tmp_path / name), is_dir(tmp_path / name)) == expected
    for name in ("none", "link", "loop", "file/x", "x" * 256, "nul\0"):
        assert not any(find(tmp_path / name) for find in (exists, is_file, is_dir))


def test_a_path_in_a_closed_folder_is_an_error_not_missing(tmp_path: Path):
    with closed(tmp_path / "home"):
        for find in (exists, is_file, is_dir):
            with pytest.raises(AccessDeniedError, match=rf"^{tmp_path}/home/x: cannot be accessed \(Permission"):
                find(tmp_path / "home" / "x")


def test_paths_are_looked_at_by_the_functions_that_explain():
    """`Path.exists`, `is_file` and `is_dir` raise PermissionError below a closed folder."""
    allowed = {
        "infra.tracking_file": 1,  # is_symlink, after `exists`
        "pipelines.models.pyfunc": 1,  # runs before the modules of the model can be imported
        "pipelines.datasets.data_files": 2,  # entries of a folder that was listed
        "infra.storage.process_folder": 1,  # a folder of this process
        "pipelines.training.shard_cache": 2,  # in a folder of which all errors name the field
    }
    calls = re.compile(r"(?<!os\.path)\.(exists|is_file|is_dir|is_symlink|is_mount)\(")
    found = {
        name: len(calls.findall(path.read_text(encoding="utf-8")))
        for name, path in MODULES.items()
        if not name.startswith("shan_model")
    }
    assert {name: count for name, count in found.items() if count} == allowed
