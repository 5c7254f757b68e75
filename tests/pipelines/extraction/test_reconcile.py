"""Re-extraction: only shards that a change affects are written, and only photos with new bytes are detected."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction import run as extract
from pipelines.extraction.hash_photos import hash_photos
from pipelines.extraction.run import Extraction
from pipelines.features.feature_set import FeatureSet
from pipelines.features.orphans import delete_orphans, find_orphans
from tests.support import extractions
from tests.support.extractions import TINY, contents, manifest_of, save, tars, write_photos

pytestmark = pytest.mark.usefixtures("ray_session")

run = functools.partial(extractions.run, detector=TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_added_photos_make_only_new_shards(tmp_path: Path, folder: Path):
    first, _ = run(manifest_of(folder), tmp_path)
    before = contents(first.feature_set.uri)
    save("cat", folder / "added.jpg")
    grown, _ = run(manifest_of(folder, more={"added": "train"}), tmp_path)
    assert (len(grown.written), grown.shards_reused, grown.photos_detected) == (1, 4, 1)
    after = contents(grown.feature_set.uri)
    replaced = {"index.json", "sizes.json"}
    assert {name: data for name, data in after.items() if name in before and name not in replaced} == {
        name: data for name, data in before.items() if name not in replaced
    }
    # The snapshot of the first extraction can still be opened.
    digest = first.feature_set.index.feature_set
    old = FeatureSet.open(f"{first.feature_set.uri}@{digest[:12]}")
    assert old.index == first.feature_set.index
    assert len(FeatureSet.open(first.feature_set.uri).split("train")) == len(old.split("train")) + 1


def test_edited_captions_rewrite_their_shard_without_detection(tmp_path: Path, folder: Path):
    first, _ = run(manifest_of(folder), tmp_path)
    edited, _ = run(manifest_of(folder, coffee="a cup of coffee"), tmp_path)
    assert (len(edited.written), edited.shards_reused, edited.photos_detected) == (1, 3, 0)
    # A fresh extraction of the edited data set gives the same bytes.
    fresh, _ = run(manifest_of(folder, coffee="a cup of coffee"), tmp_path / "fresh")
    assert tars(edited) == tars(fresh)
    # And back again: the old shard is still there.
    back, _ = run(manifest_of(folder), tmp_path)
    assert (len(back.written), back.feature_set.index) == (0, first.feature_set.index)


@pytest.mark.parametrize("flipped", [0, 700, -3000])
def test_regions_of_a_corrupt_shard_are_not_copied(tmp_path: Path, folder: Path, flipped: int):
    first, _ = run(manifest_of(folder), tmp_path)
    uri = first.feature_set.uri
    tar = Path(uri) / f"{extractions.shard(first.feature_set, 'features-train-000000')}.tar"
    data = bytearray(tar.read_bytes())
    data[flipped] ^= 1
    tar.write_bytes(data)
    before = contents(uri)
    with pytest.raises(UserError, match=rf"{tar.name} does not have the sha256 in its receipt; .*features verify"):
        run(manifest_of(folder, chelsea="a cat"), tmp_path)
    assert {name for name in contents(uri).keys() - before.keys() if name.endswith((".tar", ".receipt.json"))} == set()


def test_only_a_replaced_photo_is_detected_again(tmp_path: Path, folder: Path):
    run(manifest_of(folder), tmp_path)
    save("cat", folder / "coffee.jpg")
    changed, _ = run(manifest_of(folder), tmp_path)
    assert (len(changed.written), changed.shards_reused, changed.photos_detected) == (1, 3, 1)
    fresh, _ = run(manifest_of(folder), tmp_path / "fresh")
    assert list(tars(changed).values()) == list(tars(fresh).values())
    again, _ = run(manifest_of(folder), tmp_path)
    assert (len(again.written), again.feature_set.index) == (0, changed.feature_set.index)


def test_touched_or_moved_photos_are_not_detected_again(tmp_path: Path, folder: Path):
    first, _ = run(manifest_of(folder), tmp_path)
    moved = folder.rename(tmp_path / "elsewhere")
    for path in moved.iterdir():
        path.touch()
    again, _ = run(manifest_of(moved), tmp_path)
    assert (len(again.written), again.photos_detected) == (0, 0)
    assert again.feature_set.index.feature_set == first.feature_set.index.feature_set


def test_a_rejected_photo_that_was_fixed_is_extracted(tmp_path: Path, folder: Path):
    first, _ = run(manifest_of(folder), tmp_path)
    save("cat", folder / "cut.jpg")
    fixed, _ = run(manifest_of(folder), tmp_path)
    assert (len(fixed.written), fixed.photos_detected) == (1, 1)
    assert len(fixed.feature_set.rejected) == len(first.feature_set.rejected) - 1


def test_removed_and_moved_photos_rewrite_only_their_shards(tmp_path: Path, folder: Path):
    run(manifest_of(folder), tmp_path)
    rows = [row for row in manifest_of(folder).photos() if row.key != "chelsea"]
    rows = [dataclasses.replace(row, split="val") if row.key == "coffee" else row for row in rows]
    changed, _ = run(Manifest.build("tiny", str(folder), rows), tmp_path)
    assert changed.photos_detected == 0
    assert changed.feature_set.split("val").keys == ["astronaut", "coffee"]
    assert [row.source for row in changed.feature_set.rejected] == ["cut.jpg", "text.jpg"]


def unfinished(extraction: Extraction, lost: str) -> None:
    """Leaves an extraction as a kill does: without index, and without the shards whose names start with `lost`."""
    root = Path(extraction.feature_set.uri)
    for path in root.iterdir():
        if path.name.startswith(("index", lost)):
            path.unlink()


def test_an_unfinished_extraction_is_reused_after_an_edit(tmp_path: Path, folder: Path):
    first, _ = run(manifest_of(folder), tmp_path)
    unfinished(first, "features-test")
    edited, _ = run(manifest_of(folder, coffee="a cup"), tmp_path)
    assert edited.photos_detected == 1  # of the shard that was lost
    # Removed photos move all others to other shards; their regions are in the old shards.
    unfinished(edited, "features-none")
    rows = [row for row in manifest_of(folder).photos() if row.key not in ("chelsea", "text", "cut")]
    fewer, _ = run(Manifest.build("tiny", str(folder), rows), tmp_path)
    assert fewer.photos_detected == 0


def test_alternating_data_sets_reuse_each_others_shards(tmp_path: Path, folder: Path):
    save("cat", folder / "added.jpg")
    one, other = manifest_of(folder), manifest_of(folder, more={"added": "train"})
    fewer = Manifest.build("tiny", str(folder), [row for row in one.photos() if row.key not in ("coffee", "cut")])
    for manifest in (one, other, fewer):
        run(manifest, tmp_path)
    for manifest in (one, other, fewer, one, other):
        assert run(manifest, tmp_path)[0].photos_detected == 0
    names = set(contents(run(one, tmp_path)[0].feature_set.uri))
    for manifest in (other, fewer, one, other, fewer, one):
        run(manifest, tmp_path)
    tars_only = {name for name in names if name.endswith(".tar")}
    assert {n for n in contents(run(one, tmp_path)[0].feature_set.uri) if n.endswith(".tar")} == tars_only


def test_deleting_orphans_does_not_change_a_rerun(tmp_path: Path, folder: Path):
    run(manifest_of(folder), tmp_path)
    save("cat", folder / "coffee.jpg")
    changed, _ = run(manifest_of(folder), tmp_path)
    store = changed.feature_set.store
    orphans = find_orphans(store, earlier_snapshots=True)
    delete_orphans(store, orphans.items)
    assert orphans.items
    again, _ = run(manifest_of(folder), tmp_path)
    assert (again.written, again.feature_set.index) == ((), changed.feature_set.index)


def test_touched_photos_are_hashed_once(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []

    def counted(photos: list[Photo], manifest: Manifest) -> dict[str, str]:
        read.append(len(photos))
        return hash_photos(photos, manifest)

    monkeypatch.setattr(extract, "hash_photos", counted)
    run(manifest_of(folder), tmp_path)
    for path in folder.iterdir():
        path.touch()
    run(manifest_of(folder), tmp_path)
    run(manifest_of(folder), tmp_path)
    assert read == [6]


def test_an_unreadable_photo_is_tried_again(tmp_path: Path, folder: Path):
    """Its folder was unavailable for a while: the photo is unchanged when it is back."""
    manifest = manifest_of(folder)
    away = (folder / "coffee.jpg").rename(tmp_path / "coffee.jpg")
    first, _ = run(manifest, tmp_path)
    assert "coffee.jpg" in [row.source for row in first.feature_set.rejected]
    away.rename(folder / "coffee.jpg")
    again, _ = run(manifest, tmp_path)
    assert (len(again.written), again.photos_detected) == (1, 1)
    assert "coffee.jpg" not in [row.source for row in again.feature_set.rejected]


def test_features_beyond_float16_are_rejected(tmp_path: Path, folder: Path):
    extraction, _ = run(manifest_of(folder, more={}), tmp_path, detector_settings={"scale": 1e5}, max_rejected=1)
    beyond = [row.source for row in extraction.feature_set.rejected if row.reason == "features beyond float16 (65504)"]
    split = extraction.feature_set.split("train") if len(beyond) < 4 else None
    assert beyond
    assert split is None or np.isfinite(split[:]).all()


def test_a_detector_that_raises_names_the_photos(tmp_path: Path, folder: Path):
    with pytest.raises(UserError, match=r"^the detector fails on one of .*\.jpg \(ZeroDivisionError: wide\)$"):
        run(manifest_of(folder), tmp_path, detector_settings={"fault": "wide"})
