"""SCAN folders to feature sets: every number and caption arrives, a killed import resumes, nothing is unpickled."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.precomputed.scan import import_scan, split_shape
from pipelines.features.precomputed.shard_import import Imported
from tests.support.precomputed import SCAN_NAMES, contents, scan_folder, state

COUNTS = {"train": 7, "dev": 2, "test": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scan_folder(tmp_path / "f30k_precomp", COUNTS)


def run(folder: Path, output: Path | None = None, per_shard: int = 3) -> Imported:
    return import_scan(folder, str(output or folder.parent / "out"), None, per_shard, lambda _: None)


def test_regions_captions_and_keys_are_imported(folder: Path):
    done: list[int] = []
    imported = import_scan(folder, str(folder.parent / "out"), None, 3, done.append)
    features = FeatureSet.open(imported.feature_set.uri)
    assert (imported.shards_written, imported.shards_reused, imported.notes, sum(done)) == (5, 0, [], 12)
    assert features.dataset == "f30k_precomp"
    assert features.index.detector == DetectorDescription("precomputed-scan", {}, 8, (3, 3), {}, {})
    assert features.index.fingerprint.startswith("precomputed-scan-")
    for ours, name in SCAN_NAMES.items():
        split = features.split(ours)
        assert np.array_equal(split[:], np.load(folder / f"{name}_ims.npy"))
        assert split.captions == (folder / f"{name}_caps.txt").read_text().splitlines()
        assert split.keys == [f"{name}{n}" for n in range(COUNTS[name])]
        assert split.meta[1]["source"] == f"{name}1.jpg"
        assert split.boxes(1).shape == (0, 4)
        assert split.boxes(1).dtype == np.float32


def test_plain_webdataset_reads_it(folder: Path):
    features = run(folder).feature_set
    tars = [f"{features.uri}/{r.shard}.tar" for r in features.receipts if r.split == "train"]
    rows = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [row["__key__"] for row in rows] == [f"train{n}" for n in range(7)]
    read = np.stack([np.load(io.BytesIO(row["regions.npy"])) for row in rows])
    assert np.array_equal(read, np.load(folder / "train_ims.npy"))
    assert read.dtype == np.float16


def test_a_rerun_writes_nothing_and_reads_no_row(folder: Path, monkeypatch: pytest.MonkeyPatch):
    first = run(folder)
    before = state(first.feature_set)
    monkeypatch.setattr("pipelines.features.precomputed.npy_rows.NpyRows.read", None)
    again = run(folder)
    assert (again.shards_written, again.shards_reused) == (0, 5)
    assert state(again.feature_set) == before


@pytest.mark.parametrize("gone", ["index.json", "receipt.json", ".tar", "train-000001", ""])
def test_a_killed_import_resumes_to_the_same_bytes(folder: Path, gone: str):
    first = run(folder).feature_set
    before = contents(first)
    for path in Path(first.uri).iterdir():
        if gone in path.name:
            path.unlink()
    assert contents(run(folder).feature_set) == before


def test_the_same_bytes_elsewhere_and_other_features_beside(folder: Path, tmp_path: Path):
    first = run(folder).feature_set
    moved = folder.rename(tmp_path / "moved")
    again = import_scan(moved, str(tmp_path / "other"), "f30k_precomp", 3, lambda _: None).feature_set
    tars = {name: data for name, data in contents(first).items() if name.endswith(".tar")}
    assert {name: data for name, data in contents(again).items() if name.endswith(".tar")} == tars
    assert Path(again.uri).name == Path(first.uri).name
    rows = np.load(moved / "dev_ims.npy")
    np.save(moved / "dev_ims.npy", rows + 1)
    changed = import_scan(moved, str(tmp_path / "other"), "f30k_precomp", 3, lambda _: None).feature_set
    assert changed.uri != again.uri
    assert np.array_equal(changed.split("val")[:], (rows + 1).astype(np.float16))


def test_changed_captions_rename_their_shards(folder: Path):
    first = run(folder).feature_set
    text = (folder / "dev_caps.txt").read_text()
    (folder / "dev_caps.txt").write_text(text.replace("say 3", "tell 3", 1))
    again = run(folder)
    assert (again.shards_written, again.shards_reused, again.feature_set.uri) == (1, 4, first.uri)
    assert again.feature_set.split("val").captions[3] == "dev 0 tell 3 é"


def test_without_ids_rows_are_numbered(folder: Path):
    for path in folder.glob("*_ids.txt"):
        path.unlink()
    split = run(folder).feature_set.split("val")
    assert split.keys == ["val-000000", "val-000001"]
    assert split.meta[1]["source"] == "dev_ims.npy#1"


def test_ids_per_caption_and_ids_that_restart(folder: Path):
    for name, count in COUNTS.items():
        (folder / f"{name}_ids.txt").write_text("".join(f"{n}\n" * 5 for n in range(count)))
    imported = run(folder)
    assert imported.feature_set.split("test").keys == ["test-0", "test-1", "test-2"]
    assert "occur in several splits" in imported.notes[0]


def test_a_row_a_caption(folder: Path):
    rows = np.load(folder / "train_ims.npy")
    np.save(folder / "train_ims.npy", np.repeat(rows, 5, axis=0))
    features = run(folder).feature_set
    assert np.array_equal(features.split("train")[:], rows)
    assert features.split("train").meta[6]["captions"][0] == "train 6 say 0 é"
    broken = np.repeat(rows, 5, axis=0)
    broken[23, 2, 7] += 1
    np.save(folder / "train_ims.npy", broken)
    with pytest.raises(UserError, match="rows 20 to 24 differ"):
        run(folder)


def test_captions_per_image_can_be_any_number(folder: Path):
    """A caption per image, also where each has a row of its own and five divides their number; ids per caption."""
    for name, count in COUNTS.items():
        (folder / f"{name}_caps.txt").write_text("".join(f"{name} {n} {m}\n" for n in range(count) for m in range(3)))
        (folder / f"{name}_ids.txt").write_text("".join(f"{name}{n}.jpg\n" * 3 for n in range(count)))
    split = run(folder).feature_set.split("val")
    assert split.captions == [f"dev {n} {m}" for n in range(2) for m in range(3)]
    assert split.keys == ["dev0", "dev1"]
    single = scan_folder(folder.parent / "single", {"train": 10})
    (single / "train_caps.txt").write_text("".join(f"caption {n}\n" for n in range(10)))
    features = run(single, folder.parent / "single_out").feature_set
    assert [meta["captions"] for meta in features.split("train").meta] == [[f"caption {n}"] for n in range(10)]
    assert np.array_equal(features.split("train")[:], np.load(single / "train_ims.npy"))


def test_each_image_may_have_any_number_of_captions(folder: Path):
    for name in COUNTS:
        (folder / f"{name}_caps.txt").unlink()
    (folder / "train_ids.txt").unlink()
    (folder / "train_caps.tsv").write_text("6\tof six é\n0\tof zero\tand a tab\n\n6\tagain\n")
    (folder / "dev_caps.tsv").write_text("dev1.jpg\tof one\r\n")
    (folder / "test_caps.tsv").write_text("")
    features = run(folder).feature_set
    captions = {row["source"]: row["captions"] for name in SCAN_NAMES for row in features.split(name).meta}
    assert {source: found for source, found in captions.items() if found} == {
        "train_ims.npy#0": ["of zero\tand a tab"],
        "train_ims.npy#6": ["of six é", "again"],
        "dev1.jpg": ["of one"],
    }
    assert len(captions) == sum(COUNTS.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dev0.jpg\tx\ndev9.jpg\ty\n", r"dev_caps.tsv: line 2 \('dev9.jpg\\ty'\) is not an id of the images, a tab"),
        (b"dev0.jpg x\n", r"dev_caps.tsv: line 1 .* is not an id of the images, a tab and a caption; correct it"),
        (b"dev0.jpg\tx\n\xff\ty\n", "dev_caps.tsv: not readable as text .line 2 is not UTF-8"),
        (b"dev0.jpg\t. .\n", "dev0.jpg: a caption has no word"),
    ],
)
def test_a_bad_line_of_captions_is_named(folder: Path, content: bytes, message: str):
    (folder / "dev_caps.tsv").write_bytes(content)
    with pytest.raises(UserError, match=r"it has both dev_caps.tsv and dev_caps.txt; remove one of them"):
        run(folder)
    (folder / "dev_caps.txt").unlink()
    with pytest.raises(UserError, match=message):
        run(folder)


def test_testall_is_used_without_a_test_split(folder: Path):
    for kind in ("ims.npy", "caps.txt", "ids.txt"):
        (folder / f"testall_{kind}").write_bytes((folder / f"dev_{kind}").read_bytes())
    imported = run(folder)
    assert len(imported.feature_set.split("test")) == 3
    assert imported.notes == ["testall_ims.npy is left out: test_ims.npy is the test split"]
    (folder / "test_ims.npy").unlink()
    (folder / "dev_ims.npy").unlink()
    assert run(folder).feature_set.split("test").keys == ["dev0", "dev1"]


def test_what_float16_cannot_hold_is_rejected(folder: Path):
    rows = np.load(folder / "train_ims.npy")
    rows[1, 0, 0], rows[2, 1, 3], rows[4, 2, 2], rows[5] = 65520, np.nan, -np.inf, 65504
    np.save(folder / "train_ims.npy", rows)
    features = run(folder).feature_set
    assert [(row.key, row.reason) for row in features.rejected] == [
        ("train1", "features beyond float16 (65504)"),
        ("train2", "features are not finite"),
        ("train4", "features are not finite"),
    ]
    assert (features.split("train")[[2]] == 65504).all()
    assert (Path(features.uri) / "quarantine.parquet").is_file()


def test_an_import_of_only_unusable_images_fails(tmp_path: Path):
    folder = scan_folder(tmp_path / "x", {"train": 2})
    np.save(folder / "train_ims.npy", np.full((2, 3, 8), np.inf, np.float32))
    with pytest.raises(UserError, match="2 of 2 photos are rejected, all of them: 2 x 'features are not finite'"):
        run(folder)
    assert not list((tmp_path / "out").rglob("index.json"))


ROWS = np.zeros((2, 3, 8), np.float32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev_ims.npy", np.array([{"a": 1}] * 2, dtype=object), "dev_ims.npy: not a complete .npy file of numbers"),
        ("dev_ims.npy", b"\x80\x04K\x01.", "not a complete .npy file"),
        ("dev_ims.npy", b"", "not a complete .npy file"),
        ("dev_ims.npy", ROWS[0], "float32 3 x 8, expected images x regions x features"),
        ("dev_ims.npy", ROWS.astype(np.float64), "float64 2 x 3 x 8, expected"),
        ("dev_ims.npy", np.asfortranarray(ROWS), "C order; save it in that form"),
        ("dev_ims.npy", ROWS[:, :2], r"splits differ in regions x width \[\(2, 8\), \(3, 8\)\]"),
        ("dev_ims.npy", np.zeros((4, 3, 8), np.float32), "4 images and 10 lines in dev_caps.txt"),
        ("dev_caps.txt", None, "dev_caps.txt: no such file; .* for images without captions, an empty dev_caps.tsv"),
        ("dev_caps.txt", b"", "2 images and 0 lines in dev_caps.txt"),
        ("dev_caps.txt", b"\xff\n" * 10, "not readable as UTF-8"),
        ("dev_caps.txt", b"a\n" * 9, "2 images and 9 lines"),
        ("dev_caps.txt", b"a\n" * 9 + b"\n", "dev1.jpg: a caption has no word"),
        ("dev_ids.txt", b"a\n", "1 ids for 2 images"),
        ("dev_ids.txt", b"", "0 ids for 2 images"),
        ("dev_ids.txt", b"a\na\n", r"id 2 \('a'\) is also the id of image 1"),
        ("dev_ids.txt", b"a\n/\n", r"id 2 \('/'\) is not a usable name"),
        ("dev_ids.txt", b"a.b\na.c\n", "share the key a; rename"),
        ("dev_ids.txt", b"a\n" * 4 + b"b\n" * 6, "lines 1 to 5 name more than one image"),
    ],
)
def test_format_errors_are_one_line(folder: Path, name: str, content: object, message: str):
    path = folder / name
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, np.asanyarray(content), allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        run(folder)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_a_folder_without_features(folder: Path, tmp_path: Path):
    data = (folder / "train_ims.npy").read_bytes()
    (folder / "train_ims.npy").write_bytes(data[:-4])
    with pytest.raises(UserError, match="not a complete"):
        run(folder)
    with pytest.raises(UserError, match=r"no train_ims\.npy"):
        run(tmp_path)


MEMORY = """
import sys
from pathlib import Path
from pipelines.features.precomputed.scan import import_scan
from tests.benchmarks.measure import gib
from tests.support.precomputed import scan_folder
import numpy as np
folder, images = Path(sys.argv[1]), int(sys.argv[2])
(folder / "in").mkdir()
rows = np.lib.format.open_memmap(folder / "in" / "train_ims.npy", "w+", np.float32, (images, 36, 2048))
del rows
(folder / "in" / "train_caps.txt").write_text("a\\n" * (5 * images))
import_scan(folder / "in", str(folder / "out"), None, 8, lambda _: None)
print(gib("VmHWM"))
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    peaks = []
    for images in (64, 1024):  # 19 and 302 MB
        (tmp_path / str(images)).mkdir()
        command = [sys.executable, "-c", MEMORY, str(tmp_path / str(images)), str(images)]
        peaks.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    assert peaks[1] - peaks[0] < 0.08


def test_a_shape_is_read_without_reading_other_splits(folder: Path):
    (folder / "train_ims.npy").write_bytes(b"")
    assert [split_shape(folder, split) for split in ("val", "test", "gallery")] == [(2, 8), (3, 8), (0, 0)]
    rows = np.load(folder / "test_ims.npy")
    np.save(folder / "test_ims.npy", np.repeat(rows, 5, axis=0))  # one row per caption
    assert split_shape(folder, "test") == (3, 8)
    for file in folder.glob("test_*"):
        file.rename(folder / file.name.replace("test_", "testall_"))
    assert split_shape(folder, "test") == (3, 8)
