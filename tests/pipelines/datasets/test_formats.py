"""Tests of the detection of formats by content."""

import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import StorageError, UserError
from pipelines.datasets.formats import detect_format
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.rows import DatasetFile
from tests.support.bad_stores import UNREADABLE

KARPATHY = {"images": [{"filename": "a.jpg", "split": "val", "sentences": [{"raw": "x"}]}], "dataset": "d"}
ROW = '{"uri": "a.jpg", "caption": "x"}\n'


def file(path: Path, columns: dict[str, str]) -> DatasetFile:
    return DatasetFile(str(path), path, columns, "")


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"uri": ["a.jpg"], "caption": ["x"]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (json.dumps(KARPATHY), "json"),
        (json.dumps(KARPATHY, indent=2), "json"),
        ("\ufeff\n " + json.dumps(KARPATHY), "json"),
        (ROW, "jsonl"),
        (2 * ROW, "jsonl"),
        ('{"uri": "a.jpg", "caption": "x", "images": []}\n' + ROW, "jsonl"),
        ("a.jpg#0\tx\n", "flickr"),
        ("image,caption\na.jpg,x\n", "csv"),
        ('"caption", "uri"\r\nx,a.jpg\r\n', "csv"),
        ("uri\n", "csv"),
        ("uri\tcaption\na.jpg\tx\n", "tsv"),
        ("\ufeffimage,caption\r\n", "csv"),
        ("a.jpg\nb.jpg\n", "list"),
        ("1000092795\n", "list"),
        (parquet(), "parquet"),
    ],
)
@pytest.mark.parametrize("name", ["d", "d.txt", "d.json"])
def test_content_decides(tmp_path: Path, name: str, content: str | bytes, format_: str):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = detect_format(file(tmp_path / name, {}))
    assert found == ("json" if format_ == "list" and name == "d.json" else format_)


def test_a_column_of_the_option_decides(tmp_path: Path):
    (tmp_path / "d.txt").write_text("url,TEXT\na.jpg,x\n")
    assert detect_format(file(tmp_path / "d.txt", {"image": "url"})) == "csv"
    with pytest.raises(UserError, match=r"d.txt: its format is not recognised; give --format, one of karpathy, coco"):
        detect_format(file(tmp_path / "d.txt", {}))


def archives(folder: Path) -> list[Path]:
    """Writes archives under names that do not show what they are."""
    (folder / "a.csv").write_text("uri,caption\n")
    with zipfile.ZipFile(folder / "zip", "w") as zipped:
        zipped.write(folder / "a.csv", "a.csv")
    (folder / "gzip").write_bytes(gzip.compress(b"uri,caption\n"))
    return [folder / name for name in ("zip", "gzip")]


def test_archives_are_refused_with_the_fix(tmp_path: Path):
    for path in archives(tmp_path):
        with pytest.raises(
            UserError, match=f"{path} is an archive or compressed; unpack it and give the file in it, or pack"
        ):
            import_dataset(path, tmp_path)


def test_a_tar_without_its_ending_is_named(tmp_path: Path):
    with tarfile.open(tmp_path / "photos", "w") as opened:
        opened.add(__file__, "a.jpg")
    with pytest.raises(UserError, match=r"/photos is a tar, but its name does not end in \.tar; rename it"):
        import_dataset(tmp_path / "photos", tmp_path)


def folder_of(path: Path, *names: str) -> Path:
    """Writes a folder of empty files, which are listed only."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    ("names", "found", "fix"),
    [
        (("0.tar", "1.tar", "preview.jpg"), "images: 1 (first preview.jpg), tars: 2 (first 0.tar)", "folder or webd"),
        (("a.jpg", "b.PNG", "stats.parquet"), "images: 2 (first a.jpg), Parquet files: 1 (first stats.parquet)", "fol"),
        (("0.tar", "0.parquet", "x.parquet"), "tars: 1 (first 0.tar), Parquet files: 1 (first x.parquet)", "webdata"),
    ],
)
def test_a_folder_of_several_formats_is_refused(tmp_path: Path, names: tuple[str, ...], found: str, fix: str):
    message = f"has files of several formats ({found}); state which of them to read: --format {fix}"
    with pytest.raises(UserError, match=re.escape(message)):
        import_dataset(folder_of(tmp_path / "d", *names))


def test_the_option_reads_a_folder_of_several_formats(tmp_path: Path):
    folder = folder_of(tmp_path / "d", "a.jpg", "stats.parquet")
    assert import_dataset(DatasetFiles((str(folder),), "folder")).table.num_rows == 1


def test_the_files_of_img2dataset_are_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It writes a Parquet file beside each folder of images (`output_format=files`), texts beside each image."""
    names = [f"{n}/{n}{i}.{kind}" for n in range(2) for i in range(2) for kind in ("jpg", "txt", "json")]
    folder = folder_of(tmp_path / "d", *names, "0.parquet", "1.parquet", "0_stats.json", "1_stats.json")
    manifest = import_dataset(folder)
    assert [photo.source for photo in manifest.photos()] == ["0/00.jpg", "0/01.jpg", "1/10.jpg", "1/11.jpg"]
    note = capsys.readouterr().err
    assert "12 files in" in note
    assert note.endswith("; no captions are read beside images: give a table or tars of them\n")


def test_mismatched_format_of_folder_or_file_is_rejected(tmp_path: Path):
    (tmp_path / "d.csv").write_text("uri\n")
    (tmp_path / "d").mkdir()
    for name, format_, message in (
        ("d", "parquet", "no .parquet file in this folder"),
        ("d", "csv", "not readable as csv"),
        ("d", "flickr", "not readable as text"),
        ("d", "coco", "not readable as JSON"),
        ("d.csv", "folder", "no image in this folder"),
    ):
        with pytest.raises(UserError, match=f"/{name}: {message}"):
            import_dataset(DatasetFiles((f"{tmp_path}/{name}",), format_), tmp_path)


def test_the_option_overrides_the_content(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "d.txt").write_text("uri,caption\na.jpg,x\n")
    assert import_dataset(DatasetFiles((f"{tmp_path}/d.txt",), "csv"), tmp_path).table.num_rows == 1
    for format_, message in (
        ("tsv", "columns are uri,caption; name the one of the images"),
        ("jsonl", "not readable as jsonl"),
        ("parquet", "not readable as parquet"),
        ("karpathy", "not readable as JSON"),
        ("coco", "not readable as JSON"),
        ("flickr", "line 1 .* is not `<file name>#<number>`"),
    ):
        with pytest.raises(UserError, match=message):
            import_dataset(DatasetFiles((f"{tmp_path}/d.txt",), format_), tmp_path)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_file_that_its_disk_cannot_read_is_named(tmp_path: Path):
    path = tmp_path / "d.json"
    path.symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match=f"{path}: cannot be accessed .Input/output error"):
        detect_format(file(path, {}))
