"""Verification: an untouched feature set is whole, and every way of damaging one is found and named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet, index_digest, manifest_name
from pipelines.features.shards import build_tar
from pipelines.features.verify import Verification, verify
from tests.support.feature_sets import DETECTOR, FEATURE_DIM, manifest, receipt_of, sample, tar_of, write_set

NAN = float("nan")


def check(uri: str) -> Verification:
    return verify(uri, lambda done, total: None)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_an_untouched_set_is_whole(features: FeatureSet):
    steps: list[tuple[int, int]] = []
    found = verify(features.uri, lambda done, total: steps.append((done, total)))
    assert found.faults == ()
    assert (found.shards, found.photos, found.rejected) == (4, 5, 1)
    assert found.size == sum(row["bytes"] for row in features.index["shards"])
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check(f"{features.uri}@{features.index['feature_set'][:12]}").faults == ()


def test_a_set_without_boxes_classes_and_sizes_is_whole(tmp_path: Path):
    bare = {
        "boxes_R4": np.empty((0, 4), np.float32),
        "meta": {"width": None, "height": None, "sha256": None, "classes": [], "confidences": []},
    }
    detector = DETECTOR | {"class_names": {}}
    features = write_set(tmp_path, manifest(tmp_path), {f"p{i}": bare for i in range(6)}, detector)
    assert check(features.uri).faults == ()


def test_past_indexes_stay_whole(tmp_path: Path, features: FeatureSet):
    old = f"{features.uri}@{features.index['feature_set'][:12]}"
    write_set(tmp_path, manifest(tmp_path, said="an edited photo of"))
    assert check(features.uri).faults == ()
    assert check(old).faults == ()


REGIONS_F16 = np.ones((3, FEATURE_DIM), np.float16)
BOX = np.array([[0, 0, 5, 5]] * 3, np.float32)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"regions_RF": REGIONS_F16 * NAN}, "p0.regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16 * np.inf}, "p0.regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16.astype(np.float32)}, "p0.regions.npy is float32 (3, 8), wanted float16 (R, 8)"),
        ({"regions_RF": REGIONS_F16[:, :7]}, "p0.regions.npy has 7 numbers a region, the index says 8"),
        ({"regions_RF": REGIONS_F16[:2]}, "p0.regions.npy has 2 regions, the index says 3 to 3"),
        ({"boxes_R4": BOX.astype(np.float64)}, "p0.boxes.npy is float64 (3, 4), wanted float32 (R, 4)"),
        ({"boxes_R4": BOX[:, :3]}, "p0.boxes.npy is float32 (3, 3), wanted float32 (R, 4)"),
        ({"boxes_R4": BOX[:2]}, "p0.boxes.npy has 2 boxes for 3 regions"),
        ({"boxes_R4": BOX * NAN}, "p0.boxes.npy has values that are not finite"),
        ({"boxes_R4": BOX[:, ::-1].copy()}, "p0.boxes.npy has boxes without area"),
        ({"boxes_R4": BOX - 1}, "p0.boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"boxes_R4": BOX * 12}, "p0.boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"meta": {"captions": []}}, "p0.json has no list of captions"),
        ({"meta": {"captions": ["a photo of 0", " "]}}, "p0.json has no list of captions, or an empty one among them"),
        ({"meta": {"captions": ["another"]}}, "p0.json has captions that are not the manifest's"),
        ({"meta": {"source": "other.png"}}, "p0 has the source 'other.png', the manifest says 'p0.png'"),
        ({"meta": {"width": 0}}, "p0.json has a width of 0"),
        ({"meta": {"classes": [1, 2]}}, "p0.json has 2 classes for 3 regions"),
        ({"meta": {"classes": [1, 2, 99]}}, "p0.json has classes that the index does not name, first 99"),
        ({"meta": {"classes": [1, 2, 1.5]}}, "p0.json has no list of whole numbers `classes`"),
        ({"meta": {"classes": None}}, "p0.json has no list of whole numbers `classes`"),
        ({"meta": {"confidences": [0.5, 0.5]}}, "p0.json has 2 confidences for 3 regions"),
        ({"meta": {"confidences": [0.5, 0.5, 1.5]}}, "p0.json has confidences outside [0, 1]"),
        ({"meta": {"confidences": [0.5, 0.5, NAN]}}, "p0.json has confidences outside [0, 1]"),
        ({"meta": {"confidences": ["high"] * 3}}, "p0.json has no list of numbers `confidences`"),
        ({"meta": {"attributes": [1]}}, "p0.json has 1 attributes for 3 regions"),
        ({"meta": {"attribute_confidences": [2, 0, 0]}}, "p0.json has attribute_confidences outside [0, 1]"),
    ],
)
def test_a_wrong_photo_is_named(tmp_path: Path, change: dict[str, Any], fault: str):
    """The shard is written with these values, so checksums agree and the content alone is wrong."""
    features = write_set(tmp_path, manifest(tmp_path), {"p0": change})
    faults = check(features.uri).faults
    of_p0 = (f"{tar_of(features, 'p0').name}: p0", f"{receipt_of(features, 'p0').name}: p0")
    assert any(fault in found for found in faults), faults
    assert all(found.startswith(of_p0) for found in faults), faults


def test_every_bit_of_a_tar_counts(features: FeatureSet):
    tar = tar_of(features, "p0")
    size = tar.stat().st_size
    for at in np.random.default_rng(0).integers(0, size, 40).tolist():
        flip(tar, at)
        faults = check(features.uri).faults
        assert f"{tar.name}: its bytes are not those of which the index has the sha256" in faults
        assert all(fault.startswith(tar.name) for fault in faults)
        flip(tar, at)
    assert check(features.uri).faults == ()


def test_a_member_that_cannot_be_read_is_named(features: FeatureSet):
    tar = tar_of(features, "p0")
    for member, name in enumerate(("regions.npy is no readable array", "boxes.npy is no readable array", "json is no")):
        at = features.receipts[0].written[0].offsets[member][0]
        flip(tar, at)
        assert any(f"p0.{name}" in fault for fault in check(features.uri).faults)
        flip(tar, at)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


DAMAGES: list[tuple[Callable[[FeatureSet], object], str]] = [
    (lambda f: tar_of(f, "p0").unlink(), "features-train-000000-*.tar: is not there"),
    (lambda f: receipt_of(f, "p0").unlink(), "features-train-000000-*.receipt.json: is not there"),
    (lambda f: receipt_of(f, "p0").write_text("{"), "features-train-000000-*.receipt.json: is no receipt of ours"),
    (lambda f: receipt_of(f, "p0").write_text("3"), "features-train-000000-*.receipt.json: is no receipt of ours"),
    (lambda f: cut(tar_of(f, "p0")), "features-train-000000-*.tar: has 9540 bytes, the index says 10240"),
    (lambda f: tar_of(f, "p0").write_bytes(b""), "features-train-000000-*.tar: is no readable tar"),
    (
        lambda f: tar_of(f, "p0").write_bytes(build_tar([sample(next(manifest(Path("/")).photos()), seed=1)])),
        "features-train-000000-*.tar: has 3 members, the receipt names 6",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"sha256": "0" * 64}),
        "features-train-000000-*.receipt.json: its sha256 is 000",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"].__setitem__(1, d["written"][0])),
        "features-train-000000-*.receipt.json: its photos is *, the index says *",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"size": 1}),
        "features-train-000000-*.receipt.json: its bytes is 1, the index says 10240",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"shard": "features-val-000000-01234567"}),
        "features-train-000000-*.receipt.json: its name is features-val-000000-01234567",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0]["offsets"][0].__setitem__(0, 1)),
        "features-train-000000-*.tar: has p0.regions.npy at * of 176 bytes where the receipt has p0.regions.npy at 1",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "features-train-000000-*.tar: p1 is also in features-train-000000-",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "manifest-*.parquet: 1 of its photos are neither written nor rejected, first p0",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="stranger")),
        "features-train-000000-*.receipt.json: stranger is not in the manifest",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(sha256="f")),
        "features-train-000000-*.tar: p0.json has the sha256 '0*', the receipt says 'f'",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d | {"rejected": []}),
        "features-train-000001-*.receipt.json: its rejected is 0, the index says 1",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d["rejected"][0].update(reason="")),
        "features-train-000001-*.receipt.json: p3 is rejected without a reason",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d["rejected"][0].update(reason="other")),
        "quarantine.parquet: is not what the receipts say",
    ),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{}"), "sizes.json: is not what the index says"),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{"), "sizes.json: is not what the index says"),
    (lambda f: (Path(f.uri) / "sizes.json").unlink(), "sizes.json: is not there"),
    (lambda f: (Path(f.uri) / "quarantine.parquet").unlink(), "quarantine.parquet: is not there"),
    (lambda f: cut(Path(f.uri) / "quarantine.parquet"), "quarantine.parquet: is not what the receipts say"),
    (lambda f: manifest_of(f).unlink(), "manifest-*.parquet: is not there"),
    (lambda f: cut(manifest_of(f)), "manifest-*.parquet: not a readable manifest"),
    (
        lambda f: manifest_of(f).write_bytes(manifest(Path("/"), said="edited").to_parquet()),
        "manifest-*.parquet: its content is not that of the digest which the index names",
    ),
    (
        lambda f: edit_json(Path(f.uri) / "index.json", lambda d: d | {"fingerprint": "other"}),
        "index.json: its content is not that of its digest",
    ),
    (lambda f: kept_index(f).unlink(), "snapshot-*.json: is not there"),
    (lambda f: kept_index(f).write_text("{}"), "snapshot-*.json: is no index of ours"),
    (
        lambda f: edit_json(kept_index(f), lambda d: d | {"photos": "x"}),
        "snapshot-*.json: is not the same as index.json",
    ),
]


def manifest_of(features: FeatureSet) -> Path:
    return Path(features.uri) / manifest_name(features.index["manifest"])


def kept_index(features: FeatureSet) -> Path:
    return Path(features.uri) / f"snapshot-{features.index['feature_set'][:12]}.json"


@pytest.mark.parametrize(("damage", "fault"), DAMAGES, ids=[fault for _, fault in DAMAGES])
def test_damage_is_found_and_named(features: FeatureSet, damage: Callable[[FeatureSet], object], fault: str):
    damage(features)
    faults = check(features.uri).faults
    parts = fault.split("*")
    assert any(found.startswith(parts[0]) and all(part in found for part in parts) for found in faults), faults


def test_all_faults_are_found_not_only_the_first(features: FeatureSet):
    tar_of(features, "p0").unlink()
    flip(tar_of(features, "p5"), features.receipts[3].written[0].offsets[0][0])
    (Path(features.uri) / "sizes.json").unlink()
    objects = [fault.split(":")[0] for fault in check(features.uri).faults]
    assert set(objects) == {tar_of(features, "p0").name, tar_of(features, "p5").name, "sizes.json"}


def test_an_index_of_its_own_digest_that_names_a_split_wrongly(tmp_path: Path):
    """An index whose writer was wrong: its digest is right, its shard names another split than the manifest."""
    features = write_set(tmp_path, manifest(tmp_path))
    folder, index = Path(features.uri), features.index
    old = index["shards"][2]["name"]
    new = old.replace("val", "train")
    for ending in (".tar", ".receipt.json"):
        (folder / f"{old}{ending}").rename(folder / f"{new}{ending}")
    edit_json(folder / f"{new}.receipt.json", lambda d: d | {"shard": new})
    index["shards"][2]["name"] = new
    index["feature_set"] = index_digest(index)
    for name in ("index.json", f"snapshot-{index['feature_set'][:12]}.json"):
        (folder / name).write_text(json.dumps(index))
    assert f"{new}.receipt.json: p4 is of split val in the manifest" in check(features.uri).faults


def test_a_report_with_other_rows_is_a_fault(features: FeatureSet):
    path = Path(features.uri) / "quarantine.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    (fault,) = check(features.uri).faults
    assert fault.startswith("quarantine.parquet: is not what the receipts say")


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"format": "shan-features/2"}'])
def test_what_has_no_index_of_ours_is_said_in_one_line(features: FeatureSet, text: str):
    (Path(features.uri) / "index.json").write_text(text)
    with pytest.raises(UserError, match=r"its index\.json is not one of ours"):
        check(features.uri)
    (Path(features.uri) / "index.json").unlink()
    with pytest.raises(UserError, match=r"no index\.json here; run `python -m jobs\.extract` to its end"):
        check(features.uri)
