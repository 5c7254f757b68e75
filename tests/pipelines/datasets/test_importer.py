"""Tests of the importer: the suffix selects the format, and data sets are read by path or URI."""

import json
import unicodedata
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.importer import import_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"x")
    image = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "one"}]}
    (tmp_path / "d.json").write_text(json.dumps({"images": [image]}))
    (tmp_path / "d.csv").write_text("uri,split,caption\na.jpg,val,one\n")
    return tmp_path


@pytest.mark.parametrize("name", ["d.json", "d.csv"])
def test_paths_and_uris_give_the_same_manifest(folder: Path, name: str):
    by_path = import_dataset(folder / name, folder)
    by_uri = import_dataset((folder / name).as_uri(), folder)
    assert by_uri.digest() == by_path.digest()
    assert [(row.key, row.split, row.captions) for row in by_path.photos()] == [("a", "val", ("one",))]


def test_errors_name_the_uri(folder: Path):
    with pytest.raises(UserError, match=rf"^file://{folder}/none.json: no such file"):
        import_dataset(f"file://{folder}/none.json", folder)
    (folder / "bad.json").write_text("[]")
    with pytest.raises(UserError, match=rf"^file://{folder}/bad.json: not in the Karpathy layout"):
        import_dataset(f"file://{folder}/bad.json", folder)


@pytest.mark.parametrize("name", ["d.JSON", "D.json", "d.CSV"])
def test_the_case_of_an_ending_does_not_matter(folder: Path, name: str):
    (folder / f"d{Path(name).suffix.lower()}").rename(folder / name)
    assert import_dataset(folder / name, folder).table.num_rows == 1


def test_a_data_set_is_found_in_another_unicode_form(folder: Path):
    (folder / "d.csv").rename(folder / unicodedata.normalize("NFD", "é.csv"))
    assert import_dataset(folder / unicodedata.normalize("NFC", "é.csv"), folder).table.num_rows == 1


@pytest.mark.parametrize("name", ["d.json.gz", "d.csv.ZIP", "d.tar", "s3://bucket/d.jsonl.zst"])
def test_archives_are_refused_with_the_fix(folder: Path, name: str):
    with pytest.raises(UserError, match=f"^data set .*{name} is an archive or compressed; unpack it"):
        import_dataset(name if "://" in name else folder / name, folder)
