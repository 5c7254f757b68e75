"""Re-extraction: only shards that a change affects are written, and only photos with new bytes are detected.

What a feature set has of them is read by `pipelines.extraction.history` into `pipelines.extraction.receipt_entries`.
"""

import dataclasses
import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.cluster import ClusterConfig
from infra.errors import UserError
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import Manifest, Photo, Photos
from pipelines.extraction import run as extract
from pipelines.extraction.hash_photos import hash_photos
from pipelines.extraction.run import extraction_summary
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import attempts_name
from pipelines.features.orphans import delete_orphans, find_orphans
from pipelines.features.shard_plan import plan_shards
from tests.support import extractions
from tests.support.extractions import contents, manifest_of, run, save, tars, write_photos
from tests.support.webdataset_tars import img2dataset_shard

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def extracted(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and the feature set extracted from them, of which tests change a copy."""
    root = tmp_path_factory.mktemp("extracted")
    run(manifest_of(write_photos(root / "photos")), root)
    return root


@pytest.fixture
def first(extracted: Path, tmp_path: Path) -> FeatureSet:
    """The feature set of the photos in `tmp_path / "photos"`."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    (index,) = tmp_path.glob("features/*/index.json")
    return FeatureSet.open(str(index.parent))


def test_added_photos_make_only_new_shards(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    before = contents(first.uri)
    save("cat", folder / "added.jpg")
    grown, _ = run(manifest_of(folder, more={"added": "train"}), tmp_path)
    assert (len(grown.written), grown.shards_reused, grown.photos_detected) == (1, 4, 1)
    after = contents(grown.feature_set.uri)
    replaced = {"index.json", "sizes.json", "README.md"}
    assert {name: data for name, data in after.items() if name in before and name not in replaced} == {
        name: data for name, data in before.items() if name not in replaced
    }
    # The snapshot of the first extraction can still be opened.
    digest = first.index.feature_set
    old = FeatureSet.open(f"{first.uri}@{digest[:12]}")
    assert old.index == first.index
    assert len(FeatureSet.open(first.uri).split("train")) == len(old.split("train")) + 1


def test_edited_captions_rewrite_their_shard_without_detection(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    edited, _ = run(manifest_of(folder, coffee="a cup of coffee"), tmp_path)
    assert (len(edited.written), edited.shards_reused, edited.photos_detected) == (1, 3, 0)
    # A fresh extraction of the edited data set gives the same bytes.
    fresh, _ = run(manifest_of(folder, coffee="a cup of coffee"), tmp_path / "fresh")
    assert tars(edited) == tars(fresh)
    # And back again: the old shard is still there.
    back, _ = run(manifest_of(folder), tmp_path)
    assert (len(back.written), back.feature_set.index.feature_set) == (0, first.index.feature_set)


@pytest.mark.parametrize("flipped", [0, 700, -3000])
def test_regions_of_a_corrupt_shard_are_not_copied(tmp_path: Path, first: FeatureSet, flipped: int):
    folder = tmp_path / "photos"
    uri = first.uri
    tar = Path(uri) / f"{extractions.shard(first, 'features-train-000000')}.tar"
    data = bytearray(tar.read_bytes())
    data[flipped] ^= 1
    tar.write_bytes(data)
    before = contents(uri)
    with pytest.raises(UserError, match=rf"{tar.name} does not have the sha256 in its receipt; .*features verify"):
        run(manifest_of(folder, chelsea="a cat"), tmp_path)
    assert {name for name in contents(uri).keys() - before.keys() if name.endswith((".tar", ".receipt.json"))} == set()


def test_only_a_replaced_photo_is_detected_again(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    save("cat", folder / "coffee.jpg")
    changed, _ = run(manifest_of(folder), tmp_path)
    assert (len(changed.written), changed.shards_reused, changed.photos_detected) == (1, 3, 1)
    fresh, _ = run(manifest_of(folder), tmp_path / "fresh")
    assert list(tars(changed).values()) == list(tars(fresh).values())
    again, _ = run(manifest_of(folder), tmp_path)
    assert (len(again.written), again.feature_set.index) == (0, changed.feature_set.index)


def test_touched_or_moved_photos_are_not_detected_again(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    moved = folder.rename(tmp_path / "elsewhere")
    for path in moved.iterdir():
        path.touch()
    again, _ = run(manifest_of(moved), tmp_path)
    assert (len(again.written), again.photos_detected) == (0, 0)
    assert again.feature_set.index.feature_set == first.index.feature_set


def test_a_rejected_photo_that_was_fixed_is_extracted(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    save("cat", folder / "cut.jpg")
    fixed, _ = run(manifest_of(folder), tmp_path)
    assert (len(fixed.written), fixed.photos_detected) == (1, 1)
    assert len(fixed.feature_set.rejected) == len(first.rejected) - 1


def test_removed_and_moved_photos_rewrite_only_their_shards(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    rows = [row for row in manifest_of(folder).photos() if row.key != "chelsea"]
    rows = [dataclasses.replace(row, split="val") if row.key == "coffee" else row for row in rows]
    changed, _ = run(Manifest.build("tiny", str(folder), rows), tmp_path)
    assert changed.photos_detected == 0
    assert changed.feature_set.split("val").keys == ["astronaut", "coffee"]
    assert [row.source for row in changed.feature_set.rejected] == ["cut.jpg", "text.jpg"]


def unfinished(features: FeatureSet, lost: str) -> None:
    """Leaves an extraction as a kill does: without index, and without the shards whose names start with `lost`."""
    root = Path(features.uri)
    for path in root.iterdir():
        if path.name.startswith(("index", lost)):
            path.unlink()


def test_an_unfinished_extraction_is_reused_after_an_edit(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    unfinished(first, "features-test")
    edited, _ = run(manifest_of(folder, coffee="a cup"), tmp_path)
    assert edited.photos_detected == 1  # of the shard that was lost
    # Removed photos move all others to other shards; their regions are in the old shards.
    unfinished(edited.feature_set, "features-none")
    rows = [row for row in manifest_of(folder).photos() if row.key not in ("chelsea", "text", "cut")]
    fewer, _ = run(Manifest.build("tiny", str(folder), rows), tmp_path)
    assert fewer.photos_detected == 0


@pytest.mark.long
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


def test_deleting_orphans_does_not_change_a_rerun(tmp_path: Path, first: FeatureSet):
    folder = tmp_path / "photos"
    save("cat", folder / "coffee.jpg")
    changed, _ = run(manifest_of(folder), tmp_path)
    store = changed.feature_set.store
    orphans = find_orphans(store, earlier_snapshots=True)
    delete_orphans(store, orphans.items)
    assert orphans.items
    again, _ = run(manifest_of(folder), tmp_path)
    assert (again.written, again.feature_set.index) == ((), changed.feature_set.index)


def test_touched_photos_are_hashed_once(tmp_path: Path, first: FeatureSet, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "photos"
    read: list[int] = []

    def counted(photos: Photos, manifest: Manifest, cluster: ClusterConfig) -> dict[str, str]:
        read.append(len(photos))
        return hash_photos(photos, manifest, cluster)

    monkeypatch.setattr(extract, "hash_photos", counted)
    for path in folder.iterdir():
        path.touch()
    run(manifest_of(folder), tmp_path)
    run(manifest_of(folder), tmp_path)
    assert read == [6]


@pytest.mark.long
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


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server: its URI, the folder that it serves, and the paths of its requests."""
    requests: list[str] = []
    served = tmp_path / "served"
    served.mkdir()

    class Server(SimpleHTTPRequestHandler):
        def log_message(self, form: str, *args: object) -> None:
            if form.startswith('"%s"'):
                requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", served, requests
        running.shutdown()


@pytest.mark.long
def test_failed_downloads_are_tried_again_on_request(tmp_path: Path, folder: Path, web: tuple[str, Path, list[str]]):
    """A rerun must not begin with thousands of requests to a dead server."""
    uri, served, requests = web
    rows = [*manifest_of(folder).photos(), Photo("w", f"{uri}/w.jpg", "val", ("web",))]
    manifest = Manifest.build("tiny", str(folder), rows)
    first, _ = run(manifest, tmp_path)
    assert "HTTP status 404" in [row.reason for row in first.feature_set.rejected]
    assert requests == ["/w.jpg"]
    save("cat", served / "w.jpg")
    unfinished(first.feature_set, "features-test")
    again, _ = run(manifest, tmp_path)
    assert (again.plan.not_retried, requests) == (1, ["/w.jpg"])
    assert "1 photos that an earlier run could not download were not tried again" in extraction_summary(again)
    retried, _ = run(manifest, tmp_path, retry_downloads=True)
    assert (retried.plan.not_retried, retried.photos_detected, len(retried.written)) == (0, 1, 1)
    assert "w" in retried.feature_set.split("val").keys
    before = len(requests)
    last, _ = run(manifest, tmp_path)
    assert (last.written, last.feature_set.index, len(requests)) == ((), retried.feature_set.index, before)


@pytest.mark.long
def test_missing_photos_are_rejected_until_they_exist(tmp_path: Path):
    """Here in a folder of images without captions, which is the whole data set."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("chelsea", "coffee", "rocket"):
        save(name, folder / f"{name}.jpg")
    names = ["chelsea.jpg", "coffee.jpg", "gone.jpg", "rocket.jpg"]

    def located() -> Manifest:
        return locate_photos("tiny", folder, [Photo(name[:-4], name, "gallery", ()) for name in names])

    with pytest.raises(UserError, match=r"1 of 4 photos of data set tiny do not exist, more than .*: gone\.jpg; give"):
        run(located(), tmp_path, max_rejected=0.2)
    first, _ = run(located(), tmp_path, max_rejected=0.25)
    assert [(row.key, row.reason) for row in first.feature_set.rejected] == [
        ("gone", "cannot be read: No such file or directory")
    ]
    assert first.feature_set.split("gallery").keys == ["chelsea", "coffee", "rocket"]
    assert first.feature_set.split("gallery").captions == []
    again, _ = run(located(), tmp_path, max_rejected=0.25)
    assert (again.written, again.plan.not_retried, again.plan.rehashed) == ((), 0, {})
    save("cat", folder / "gone.jpg")
    there, _ = run(located(), tmp_path)
    assert (len(there.written), there.photos_detected) == (1, 1)
    assert there.feature_set.split("gallery").keys == ["chelsea", "coffee", "gone", "rocket"]


@pytest.mark.long
def test_a_deleted_photo_keeps_its_features(tmp_path: Path, first: FeatureSet):
    """Also in a shard that is written again, and until another photo takes its place."""
    folder = tmp_path / "photos"
    (folder / "coffee.jpg").unlink()
    away, _ = run(manifest_of(folder), tmp_path)
    assert (away.written, away.feature_set.index.feature_set) == ((), first.index.feature_set)
    edited, _ = run(manifest_of(folder, coffee="a cup of coffee"), tmp_path)
    assert (len(edited.written), edited.photos_detected) == (1, 0)
    assert edited.feature_set.split("train").keys == first.split("train").keys
    rows = [dataclasses.replace(r, source=r.source.replace("coffee", "tea")) for r in manifest_of(folder).photos()]
    other, _ = run(Manifest.build("tiny", str(folder), rows), tmp_path)
    assert "tea.jpg" in [row.source for row in other.feature_set.rejected]
    save("cat", folder / "coffee.jpg")
    changed, _ = run(manifest_of(folder), tmp_path)
    assert (len(changed.written), changed.photos_detected) == (1, 1)


@pytest.mark.long
def test_tars_that_are_written_again_with_the_same_photos(tmp_path: Path, folder: Path):
    """The photos are at other places then: they are hashed, and only an added one is detected."""
    samples = [(path.stem, path.read_bytes(), f"a {path.stem}") for path in sorted(folder.glob("c*.jpg"))]
    tar = img2dataset_shard(tmp_path / "tars" / "00000.tar", samples)
    first, _ = run(import_dataset(tar), tmp_path)
    assert first.feature_set.split("train").keys == ["chelsea", "coffee"]
    assert [row.key for row in first.feature_set.rejected] == ["cut"]
    again, _ = run(import_dataset(tar), tmp_path)
    assert (again.written, again.feature_set.index) == ((), first.feature_set.index)
    img2dataset_shard(tar, [samples[0], ("added", (folder / "rocket.jpg").read_bytes(), "added"), *samples[1:]])
    changed, _ = run(import_dataset(tar), tmp_path)
    assert changed.photos_detected == 1
    assert changed.feature_set.split("train").captions == ["a chelsea", "a coffee", "added"]


@pytest.mark.long  # test_detect.py rejects one, too
def test_features_beyond_float16_are_rejected(tmp_path: Path, folder: Path):
    extraction, _ = run(manifest_of(folder, more={}), tmp_path, detector_settings={"scale": 1e5}, max_rejected=1)
    beyond = [row.source for row in extraction.feature_set.rejected if row.reason == "features beyond float16 (65504)"]
    split = extraction.feature_set.split("train") if len(beyond) < 4 else None
    assert beyond
    assert split is None or np.isfinite(split[:]).all()


def test_photos_on_which_the_detector_raises_are_rejected(tmp_path: Path, folder: Path):
    with pytest.raises(
        UserError,
        match=r"^6 of 6 photos are rejected, all of them: 4 x 'the detector fails on it \(ZeroDivisionError: wide",
    ):
        run(manifest_of(folder), tmp_path, detector_settings={"fault": "wide"})


@pytest.mark.long  # tests/faults/test_extraction_kills.py kills detectors
def test_a_photo_that_kills_the_detector_is_isolated(tmp_path: Path, folder: Path):
    """A red photo kills the process, here as in two processes before; a blue one only in a batch with others."""
    for name, colour in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (160, 120), colour).save(folder / f"{name}.png")
    names = ["chelsea.jpg", "red.png", "coffee.jpg", "blue.png"]
    manifest = locate_photos("tiny", folder, [Photo(name[:-4], name, "train", ("x",)) for name in names])
    settings = {"detector_settings": {"fault": "dies"}}
    planned = dataclasses.replace(extractions.config(tmp_path), **settings)
    store = extract.plan_extraction(manifest, planned, ClusterConfig()).store
    store.put_if_absent(attempts_name(next(plan_shards(manifest, 2)).name()), b'{"run the detector on red":2}')
    done, _ = run(manifest, tmp_path, **settings)
    reasons = {row.key: row.reason for row in done.feature_set.rejected}
    assert reasons == {"red": "its process died in 3 attempts to run the detector on it"}
    assert done.feature_set.split("train").keys == ["chelsea", "coffee", "blue"]
    assert [name for name in done.feature_set.store.objects() if "attempts" in name] == []
    again, _ = run(manifest, tmp_path, **settings)
    assert (again.written, again.feature_set.index) == ((), done.feature_set.index)
