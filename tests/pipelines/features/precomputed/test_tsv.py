"""Import of bottom-up-attention TSV: both column orders, the defects of real files, and resuming after a kill."""

import base64
import gzip
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.precomputed.shard_import import Imported
from pipelines.features.precomputed.tsv import MISSING, import_tsv
from tests.support.precomputed import Photo, contents, floats, karpathy_file, state

IDS = [str(n) for n in range(101, 111)]
SPLITS = dict(zip(IDS, ["train"] * 5 + ["val"] * 2 + ["test"] * 3, strict=True))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    files = {f"COCO_val2014_{int(id_):012d}.jpg": split for id_, split in SPLITS.items()}
    return karpathy_file(tmp_path / "dataset_tiny.json", files)


@pytest.fixture
def photos() -> list[Photo]:
    """Photos in another order than the data set, with 36 regions each."""
    return [Photo(id_) for id_ in IDS[::-1]]


def run(source: Path, dataset: Path, per_shard: int = 2) -> Imported:
    return import_tsv(source, dataset, str(dataset.parent / "out"), per_shard, lambda _: None)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(lines))
    return path


def check(features: FeatureSet, photos: list[Photo]) -> None:
    """Regions, boxes and captions of every photo, in the order of the rows."""
    for name in ("train", "val", "test"):
        split, wanted = features.split(name), [photo for photo in photos if SPLITS[photo.image_id] == name]
        assert split.keys == [f"COCO_val2014_{int(photo.image_id):012d}" for photo in wanted]
        for row, photo in enumerate(wanted):
            assert np.array_equal(split[[row]][0], photo.features)
            assert np.array_equal(split.boxes(row), photo.boxes)
            meta = split.meta[row]
            assert (meta["width"], meta["height"]) == (640, 480)
            assert meta["captions"] == [f"{meta['source']} {n}" for n in range(5)]


def test_six_columns(tmp_path: Path, dataset: Path, photos: list[Photo]):
    done: list[int] = []
    source = write(tmp_path / "a.tsv", [photo.six() for photo in photos])
    imported = import_tsv(source, dataset, str(tmp_path / "out"), 2, done.append)
    features = FeatureSet.open(imported.feature_set.uri)
    check(features, photos)
    assert features.split("val").meta[0]["classes"] == features.split("val").meta[0]["confidences"] == []
    assert "attributes" not in features.split("val").meta[0]
    assert (imported.shards_written, imported.shards_reused, imported.notes, sum(done)) == (6, 0, [], 10)
    assert features.index.detector == DetectorDescription("precomputed-tsv", {}, 8, (36, 36), {}, {})
    assert features.dataset == "tiny"


def test_ten_columns(tmp_path: Path, dataset: Path, photos: list[Photo]):
    features = run(write(tmp_path / "a.tsv", [photo.ten() for photo in photos]), dataset).feature_set
    check(features, photos)
    meta, photo = features.split("test").meta[1], photos[1]
    assert (meta["classes"], meta["attributes"]) == (photo.ids[0].tolist(), photo.ids[1].tolist())
    assert np.allclose(meta["confidences"], photo.confidences[0], atol=5e-5)
    assert np.allclose(meta["attribute_confidences"], photo.confidences[1], atol=5e-5)


@pytest.mark.parametrize("counts", [(10, 100), (1, 3)])
def test_photos_with_different_numbers_of_regions(tmp_path: Path, dataset: Path, counts: tuple[int, int]):
    draw = np.random.default_rng(0)
    sizes = [*counts, *draw.integers(*counts, 8).tolist()]
    photos = [Photo(id_, regions) for id_, regions in zip(IDS, sizes, strict=True)]
    features = run(write(tmp_path / "a.tsv", [photo.six() for photo in photos]), dataset).feature_set
    check(features, photos)
    assert features.index.detector.region_range == counts


def test_gzip_a_folder_of_parts_headers_and_other_line_ends(tmp_path: Path, dataset: Path, photos: list[Photo]):
    plain = run(write(tmp_path / "a.tsv", [photo.six() for photo in photos]), dataset).feature_set
    folder = tmp_path / "parts"
    folder.mkdir()
    header = "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"
    write(folder / "x.tsv.0", [header, *(photo.six() for photo in photos[:3])])
    (folder / "x.tsv.1.gz").write_bytes(gzip.compress("".join(photo.six() for photo in photos[3:6]).encode()))
    (folder / "y.tsv").write_bytes("\n".join(photo.ten() for photo in photos[6:]).replace("\n", "\r\n").encode())
    parts = run(folder, dataset).feature_set
    check(parts, photos)
    check(plain, photos)


def test_without_a_data_set_all_rows_are_in_the_gallery(tmp_path: Path, photos: list[Photo]):
    """Ids that are paths, that share a file name and that repeat; rows without one are left out."""
    pairs = [Photo("a/1.jpg"), Photo("b/1.jpg"), Photo("写真.jpg"), Photo("1")]
    rows = [*photos, *pairs, Photo("a/1.jpg", seed=1), Photo("")]
    source = write(tmp_path / "a.b.tsv", [photo.six() for photo in rows])
    imported = import_tsv(source, None, str(tmp_path / "out"), 2, lambda _: None)
    features = imported.feature_set
    split = features.split("gallery")
    assert (features.dataset, len(features.rejected), split.captions) == ("a", 0, [])
    found = {meta["source"]: (split[[row]][0], split.boxes(row)) for row, meta in enumerate(split.meta)}
    assert list(found) == [photo.image_id for photo in [*photos, *pairs]]
    for photo in [*photos, *pairs]:
        assert np.array_equal(found[photo.image_id][0], photo.features)
        assert np.array_equal(found[photo.image_id][1], photo.boxes)
    assert [key.partition("-")[0] for key in split.keys] == [*IDS[::-1], "1", "1", "__", "1"]
    assert imported.notes == [
        "1 of 16 rows left out: their photos are not in the data set",
        "1 of 16 rows left out: they repeat a photo, whose first valid row is used",
    ]
    again = import_tsv(source, None, str(tmp_path / "out"), 2, lambda _: None)
    assert (again.shards_written, again.feature_set.uri) == (0, features.uri)


def test_missing_unnamed_and_repeated_photos(tmp_path: Path, dataset: Path, photos: list[Photo]):
    other = Photo(photos[3].image_id, seed=1)
    rows = [*photos[:6], Photo("999"), other, Photo("998"), photos[6]]
    imported = run(write(tmp_path / "a.tsv", [photo.six() for photo in rows]), dataset)
    features = imported.feature_set
    assert imported.notes == [
        "2 of 10 rows left out: their photos are not in the data set",
        "1 of 10 rows left out: they repeat a photo, whose first valid row is used",
    ]
    assert np.array_equal(features.split("val")[[0]][0], photos[3].features)
    assert {(row.source[-7:-4], row.reason) for row in features.rejected} == {
        (n, MISSING) for n in ("101", "102", "103")
    }
    assert sum(len(receipt.written) for receipt in features.receipts) == 7


@pytest.mark.parametrize("per_shard", [1, 2, 32])
@pytest.mark.parametrize("broken", [{"features": "!"}, {"num_boxes": 0}, {"more": "columns"}])
def test_a_valid_row_counts_among_invalid_ones(
    tmp_path: Path, dataset: Path, photos: list[Photo], per_shard: int, broken: dict[str, object]
):
    """Invalid rows come before it, also in an earlier shard, and after it."""
    first, last = photos[0], photos[-1]
    lines = [first.six(**broken), first.six(**broken), *(photo.six() for photo in photos[1:]), first.six()]
    lines += [last.six(**broken), first.six(**broken)]
    imported = run(write(tmp_path / "a.tsv", lines), dataset, per_shard)
    check(imported.feature_set, [*photos[1:], first])
    assert imported.feature_set.rejected == ()
    assert imported.notes == [
        "2 of 14 rows left out: they repeat a photo, whose first valid row is used",
        "1 photos have invalid rows before the one that is used",
    ]


def test_a_photo_with_invalid_rows_has_the_first_reason(tmp_path: Path, dataset: Path, photos: list[Photo]):
    lines = [photos[0].six(features="!"), *(photo.six() for photo in photos[1:]), photos[0].six(num_boxes=0)]
    features = run(write(tmp_path / "a.tsv", lines), dataset).feature_set
    assert [(row.key[-3:], row.reason) for row in features.rejected] == [("110", "features are not valid base64")]


@pytest.mark.parametrize("header", ["", "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"])
def test_byte_order_marks_do_not_hide_the_first_row(tmp_path: Path, dataset: Path, photos: list[Photo], header: str):
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, part in enumerate((photos[:4], photos[4:6], photos[6:])):
        data = (header + "".join(photo.six() for photo in part)).encode("utf-8-sig")
        (folder / f"{number}.TSV").write_bytes(gzip.compress(data) if number == 1 else data)
    imported = run(folder, dataset)
    check(imported.feature_set, photos)
    assert (imported.notes, imported.feature_set.rejected) == ([], ())


@pytest.mark.parametrize("columns", ["six", "ten"])
def test_columns_that_python_3_wrote_from_bytes(tmp_path: Path, dataset: Path, photos: list[Photo], columns: str):
    rows = [getattr(photo, columns)().strip().split("\t") for photo in photos]
    lines = ["\t".join(str(value.encode()) for value in row) + "\n" for row in rows]
    assert lines[0].startswith("b'110'\tb'")
    check(run(write(tmp_path / "a.tsv", lines), dataset).feature_set, photos)


def doubles(values: np.ndarray) -> str:
    return base64.b64encode(np.asarray(values, "<f8").tobytes()).decode()


@pytest.mark.parametrize("names", ["boxes", "features", "boxes features"])
@pytest.mark.parametrize("exact", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("zeros", [0.0, 0.95])
def test_float64_columns_are_read(
    tmp_path: Path, dataset: Path, photos: list[Photo], names: str, exact: type[np.floating], zeros: float
):
    """Values may come from a narrower type, and most of them may be zero, as after a ReLU."""
    keep = np.random.default_rng(0).uniform(size=photos[0].features.shape) >= zeros
    values = {photo.image_id: (photo.features.astype(exact) / exact(3) * keep).astype(float) for photo in photos}
    lines = [
        photo.six(
            features=doubles(values[photo.image_id]) if "features" in names else floats(values[photo.image_id].ravel()),
            boxes=doubles(photo.boxes) if "boxes" in names else floats(photo.boxes.ravel()),
        )
        for photo in photos
    ]
    features = run(write(tmp_path / "a.tsv", lines), dataset).feature_set
    assert features.index.detector.feature_dim == 8
    assert features.rejected == ()
    split = features.split("test")
    for row, photo in enumerate(photos[:3]):
        assert np.array_equal(split[[row]][0], values[photo.image_id].astype(np.float32).astype(np.float16))
        assert np.array_equal(split.boxes(row), photo.boxes)


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "features are not finite"), (1e300, "features beyond float16 (65504)")]
)
def test_an_invalid_row_of_float64_is_a_rejection(
    tmp_path: Path, dataset: Path, photos: list[Photo], value: float, reason: str
):
    lines = [photo.six(features=doubles(photo.features)) for photo in photos]
    broken = photos[1].features.astype(float)
    broken[0, 0] = value
    lines[1] = photos[1].six(features=doubles(broken))
    features = run(write(tmp_path / "a.tsv", lines), dataset).feature_set
    assert [(row.key[-3:], row.reason) for row in features.rejected] == [("109", reason)]


def test_float64_columns_of_ten_are_read(tmp_path: Path, dataset: Path, photos: list[Photo]):
    lines = [
        photo.ten(
            objects_conf=doubles(photo.confidences[0]),
            attrs_conf=doubles(photo.confidences[1]),
            boxes=doubles(photo.boxes),
            features=doubles(photo.features / 3),  # values that float32 does not represent
        )
        for photo in photos
    ]
    features = run(write(tmp_path / "a.tsv", lines), dataset).feature_set
    split = features.split("test")
    assert np.array_equal(split[[0]][0], (photos[0].features / 3).astype(np.float16))
    assert np.allclose(split.meta[0]["confidences"], photos[0].confidences[0], atol=5e-5)


def test_invalid_first_rows_of_float32_are_not_taken_for_float64(tmp_path: Path, dataset: Path, photos: list[Photo]):
    lines = [
        photos[0].six(features=floats([np.nan, *[0.0] * (36 * 8 - 1)])),
        photos[1].six(features=floats([0.0, np.nan] * 144)),
    ]
    features = run(write(tmp_path / "a.tsv", [*lines, *(photo.six() for photo in photos[2:])]), dataset).feature_set
    assert features.index.detector.feature_dim == 8
    assert {(row.key[-3:], row.reason) for row in features.rejected} == {
        ("109", "features are not finite"),
        ("110", "features are not finite"),
    }


def test_the_data_set_may_be_a_table_or_a_uri(tmp_path: Path, dataset: Path, photos: list[Photo]):
    rows = [f"COCO_val2014_{int(id_):012d}.jpg,{split},x" for id_, split in SPLITS.items()]
    (tmp_path / "tiny.csv").write_text("\n".join(["uri,split,caption", *rows]))
    source = write(tmp_path / "a.tsv", [photo.six() for photo in photos])
    for output, given in (("a", tmp_path / "tiny.csv"), ("b", (tmp_path / "dataset_tiny.json").as_uri())):
        features = import_tsv(source, given, str(tmp_path / output), 2, lambda _: None).feature_set
        assert features.split("val").keys == [f"COCO_val2014_{n:012d}" for n in (107, 106)]
        assert features.index.photo_root == str(tmp_path)


def test_an_invalid_row_is_a_rejection(tmp_path: Path, dataset: Path, photos: list[Photo]):
    lines = [photo.six(**({"num_boxes": 35} if photo.image_id == "104" else {})) for photo in photos]
    features = run(write(tmp_path / "a.tsv", lines), dataset).feature_set
    assert [(row.key[-3:], row.reason) for row in features.rejected] == [("104", "boxes do not fit num_boxes")]
    assert len(features.split("train")) == 4


def test_an_incomplete_line(tmp_path: Path, dataset: Path, photos: list[Photo]):
    cut = photos[0].six()[:-700] + photos[1].six()  # no line end in between, and 10 columns now or 11
    features = run(write(tmp_path / "a.tsv", [cut, *(photo.six() for photo in photos[2:])]), dataset).feature_set
    assert {row.key[-3:] for row in features.rejected} == {"109", "110"}


def test_a_rerun_writes_nothing_and_decodes_no_row(
    tmp_path: Path, dataset: Path, photos: list[Photo], monkeypatch: pytest.MonkeyPatch
):
    source = write(tmp_path / "a.tsv", [photo.six() for photo in photos[:8]])
    before = state(run(source, dataset).feature_set)
    monkeypatch.setattr("pipelines.features.precomputed.tsv.decode_row", lambda *_: pytest.fail("a row was decoded"))
    again = run(source, dataset)
    assert (again.shards_written, again.shards_reused) == (0, 6)
    assert state(again.feature_set) == before


@pytest.mark.parametrize("gone", ["index.json", "receipt.json", ".tar", "train-000001", ""])
def test_a_killed_import_resumes_to_the_same_bytes(tmp_path: Path, dataset: Path, photos: list[Photo], gone: str):
    lines = [photo.six() for photo in photos[:8]]
    lines[3] = photos[3].six(features="broken")
    lines[2:2] = [photos[5].six(features="broken")]
    source = write(tmp_path / "a.tsv", lines)
    first = run(source, dataset).feature_set
    before = contents(first)
    for path in Path(first.uri).iterdir():
        if gone in path.name:
            path.unlink()
    assert contents(run(source, dataset).feature_set) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.tsv: none of its first 100 rows is valid \(the file is empty\)"),
        (b"a\tb\n", "the row has neither 6 nor 10 columns"),
        (b"\x80\x04K\x01.", "neither 6 nor 10"),
        (b"PK\x03\x04" + bytes(100), "it is a zip archive; unpack it"),
        (Photo("5").six().encode(), r"none of its 1 rows belongs to a photo of .* \(first image_id '5'\)"),
    ],
)
def test_invalid_files_are_a_one_line_error(tmp_path: Path, dataset: Path, content: bytes, message: str):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path / "a.tsv", dataset)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*index*"))


def test_another_format_without_a_data_set_is_named(tmp_path: Path):
    (tmp_path / "passwd").write_text("root:x:0:0\n")
    with pytest.raises(UserError, match=r"/passwd: none of its first .* \(the row has neither 6 nor 10 columns\)"):
        import_tsv(tmp_path / "passwd", None, str(tmp_path / "out"), 2, lambda _: None)


def test_missing_paths(tmp_path: Path, dataset: Path):
    for path in (tmp_path / "none.tsv", tmp_path):
        with pytest.raises(UserError, match="no TSV file there"):
            run(path, dataset)
    with pytest.raises(UserError, match="no such file"):
        run(write(tmp_path / "a.tsv", ["x"]), tmp_path / "none.json")
