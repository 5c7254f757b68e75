"""Tests of the importer: the suffix selects the format, and data sets are read by path or URI."""

import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.names import dataset_name
from tests.support.servers import S3Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"x")
    image = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "one"}]}
    (tmp_path / "d.json").write_text(json.dumps({"images": [image]}))
    (tmp_path / "d.csv").write_text("uri,split,caption\na.jpg,val,one\n")
    return tmp_path


@pytest.mark.parametrize("name", ["a b", "a_b", "a.b", "写真"])
def test_names_of_data_sets_do_not_collide(folder: Path, name: str):
    document = json.loads((folder / "d.json").read_text())
    (folder / "d.json").write_text(json.dumps({**document, "dataset": name}))
    (folder / "d.csv").rename(folder / f"{name}.csv")
    names = {import_dataset(folder / file, folder).name for file in ("d.json", f"{name}.csv")}
    assert names == {dataset_name(name)}


@pytest.mark.parametrize("given", ["~/a b%20c?d#e", "a b%20c?d#e"])
def test_paths_may_be_relative_or_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    place = folder / "a b%20c?d#e"
    place.mkdir()
    for name in ("a.jpg", "d.json", "d.csv"):
        (folder / name).rename(place / name)
    for name in ("d.json", "d.csv"):
        manifest = import_dataset(f"{given}/{name}", given)
        assert manifest.root == import_dataset(f"{given}/{name}", place.as_uri()).root == str(place)


@pytest.mark.parametrize("name", ["d.json", "d.csv"])
def test_paths_and_uris_give_the_same_manifest(folder: Path, name: str):
    by_path = import_dataset(folder / name, folder)
    by_uri = import_dataset((folder / name).as_uri(), folder)
    assert by_uri.digest() == by_path.digest()
    assert [(row.key, row.split, row.captions) for row in by_path.photos()] == [("a", "val", ("one",))]


def test_errors_name_the_file(folder: Path):
    """The path of a local file, and the URI of an object."""
    (folder / "twice.csv").write_text("image,caption\na.jpg,x\n")
    with pytest.raises(UserError, match=rf"^--dataset has {folder}/twice.csv twice; give it once"):
        import_dataset(DatasetFiles((f"{folder}/twice.csv", f"{folder}/./twice.csv")))
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(UserError, match=rf"^{folder}/pipe.csv: not a regular file; save its content as a file"):
        import_dataset(folder / "pipe.csv")
    with pytest.raises(UserError, match=rf"^{folder}/none.json: no such file"):
        import_dataset(f"file://{folder}/none.json", folder)


def test_an_unknown_split_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    for file in ("d.json", f"{folder}/d.json", "s3://bucket/d.json"):
        with pytest.raises(
            UserError, match=rf"^--dataset tran={file}: 'tran' is not a split; give one of train, val, "
        ):
            import_dataset(f"tran={file}", folder)
    (folder / "d.json").rename(folder / "tran=d.json")
    assert import_dataset("tran=d.json", folder).table.num_rows == 1


def test_errors_name_the_uri_of_an_object(folder: Path, s3_server: S3Server):
    root = f"s3://{s3_server.bucket}/{folder.name} ?#"
    with pytest.raises(UserError, match=rf"^{re.escape(root)}/none.json: no such file"):
        import_dataset(f"{root}/none.json", folder)
    open_store(root).replace("bad.json", b"[]")
    with pytest.raises(UserError, match=rf"^{re.escape(root)}/bad.json: neither Karpathy nor COCO"):
        import_dataset(f"{root}/bad.json", folder)


@pytest.mark.parametrize("name", ["d.JSON", "D.json", "d.CSV"])
def test_the_case_of_an_ending_does_not_matter(folder: Path, name: str):
    (folder / f"d{Path(name).suffix.lower()}").rename(folder / name)
    assert import_dataset(folder / name, folder).table.num_rows == 1


def test_a_data_set_is_found_in_another_unicode_form(folder: Path):
    (folder / "d.csv").rename(folder / unicodedata.normalize("NFD", "é.csv"))
    assert import_dataset(folder / unicodedata.normalize("NFC", "é.csv"), folder).table.num_rows == 1


@pytest.mark.parametrize("name", ["d.json.gz", "d.csv.ZIP", "d.tar.gz", "d.tgz", "s3://bucket/d.jsonl.zst"])
def test_archives_are_refused_with_the_fix(folder: Path, name: str):
    with pytest.raises(UserError, match=f"^data set .*{name} is an archive or compressed; unpack it"):
        import_dataset(name if "://" in name else folder / name, folder)
