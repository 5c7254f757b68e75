"""Export to SCAN's format: an imported folder comes back with the same bytes, and public code can read it."""

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.export_scan import export_scan
from pipelines.features.precomputed.exported_files import partial_file
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from tests.support.precomputed import SCAN_NAMES, Photo, karpathy_file, scan_folder

COUNTS = {"train": 40, "dev": 2, "test": 3}


def scan(folder: Path, output: Path) -> FeatureSet:
    return import_scan(folder, str(output), "d", 7, lambda _: None).feature_set


def tsv(tmp_path: Path, photos: list[Photo], captions: int = 5) -> FeatureSet:
    (tmp_path / "a.tsv").write_text("".join(photo.six() for photo in photos))
    dataset = karpathy_file(tmp_path / "d.json", {f"{photo.image_id}.jpg": "train" for photo in photos})
    text = dataset.read_text()
    if captions > 5:
        text = text.replace('"sentences": [', '"sentences": [{"raw": "more\\nthan\\r five"}, ')
    if captions < 5:
        text = text.replace('{"raw": "1.jpg 4"}', "").replace(", ]", "]")
    dataset.write_text(text)
    return import_tsv(tmp_path / "a.tsv", dataset, str(tmp_path / "out"), 2, lambda _: None).feature_set


def test_an_export_of_an_import_has_the_same_bytes(tmp_path: Path):
    source = scan_folder(tmp_path / "in", COUNTS)
    features = scan(source, tmp_path / "out")
    done: list[int] = []
    exported = export_scan(features, tmp_path / "back", done.append)
    assert exported.photos == {"train": 40, "val": 2, "test": 3}
    assert (exported.notes, sum(done)) == ([], 45)
    for name in COUNTS:
        for kind in ("ims.npy", "caps.txt"):
            assert (tmp_path / "back" / f"{name}_{kind}").read_bytes() == (source / f"{name}_{kind}").read_bytes()
    assert (tmp_path / "back" / "dev_ids.txt").read_text() == "dev0\ndev1\n"
    assert len(list((tmp_path / "back").iterdir())) == 9


def test_an_import_of_an_export_has_the_same_features(tmp_path: Path):
    first = tsv(tmp_path, [Photo(str(n)) for n in range(1, 6)])
    export_scan(first, tmp_path / "back", lambda _: None)
    again = scan(tmp_path / "back", tmp_path / "again")
    one, two = first.split("train"), again.split("train")
    assert np.array_equal(one[:], two[:])
    assert (one.keys, one.captions) == (two.keys, two.captions)


def test_public_code_reads_it(tmp_path: Path):
    """As SCAN's data loader does: lines of bytes, five captions an image, the image of caption i in row i // 5."""
    features = scan(scan_folder(tmp_path / "in", COUNTS), tmp_path / "out")
    export_scan(features, tmp_path / "back", lambda _: None)
    for ours, name in SCAN_NAMES.items():
        with (tmp_path / "back" / f"{name}_caps.txt").open("rb") as file:
            captions = [line.strip().decode("utf-8") for line in file]
        images = np.load(tmp_path / "back" / f"{name}_ims.npy")
        assert (images.dtype, len(captions)) == (np.float32, 5 * len(images))
        split = features.split(ours)
        assert captions == split.captions
        assert [i // 5 for i in range(len(captions))] == split.photo_of_caption.tolist()


def test_more_captions_than_five(tmp_path: Path):
    features = tsv(tmp_path, [Photo("1"), Photo("2")], captions=6)
    assert export_scan(features, tmp_path / "back", lambda _: None).notes == [
        "2 captions left out: public code reads the first five per photo"
    ]
    lines = (tmp_path / "back" / "train_caps.txt").read_bytes().split(b"\n")
    assert (lines[0], lines[1], len(lines)) == (b"more than  five", b"1.jpg 0", 11)


def test_feature_sets_outside_the_format_are_refused(tmp_path: Path):
    (tmp_path / "few").mkdir()
    (tmp_path / "ragged").mkdir()
    few = tsv(tmp_path / "few", [Photo("2"), Photo("1")], captions=4)
    with pytest.raises(UserError, match="photo 1 has 4 captions; SCAN's format needs five"):
        export_scan(few, tmp_path / "back", lambda _: None)
    ragged = tsv(tmp_path / "ragged", [Photo("1", 10), Photo("2", 100)])
    with pytest.raises(UserError, match="10 to 100 regions"):
        export_scan(ragged, tmp_path / "back", lambda _: None)
    assert not (tmp_path / "back").exists()


def test_existing_files_stay_and_a_killed_export_is_overwritten(tmp_path: Path):
    features = scan(scan_folder(tmp_path / "in", COUNTS), tmp_path / "out")
    back = tmp_path / "back"

    back.mkdir()
    partial_file(back, "dev_ims.npy").write_bytes(b"left by a kill")
    export_scan(features, back, lambda _: None)
    before = {path.name: path.read_bytes() for path in back.iterdir()}
    assert len(before) == 9
    (back / "dev_caps.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already; export to another folder"):
        export_scan(features, back, lambda _: None)
    assert {path.name: path.read_bytes() for path in back.iterdir()} == before | {"dev_caps.txt": b"mine"}


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    features = scan(scan_folder(tmp_path / "in", {"train": 1}), tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"PATH .* cannot be written"):
        export_scan(features, tmp_path / "file" / "back", lambda _: None)


def test_rejected_photos_are_not_exported(tmp_path: Path):
    source = scan_folder(tmp_path / "in", {"train": 3})
    rows = np.load(source / "train_ims.npy")
    rows[1] = np.nan
    np.save(source / "train_ims.npy", rows)
    exported = export_scan(scan(source, tmp_path / "out"), tmp_path / "back", lambda _: None)
    assert exported.notes == ["1 rejected photos of the feature set are not exported"]
    assert np.array_equal(np.load(tmp_path / "back" / "train_ims.npy"), rows[[0, 2]])
    assert (tmp_path / "back" / "train_ids.txt").read_text() == "train0\ntrain2\n"
