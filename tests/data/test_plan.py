"""The plan is a pure function: every photo once, fixed names, other inputs elsewhere."""

from pipelines.manifest import Manifest, Photo
from pipelines.plan import plan_feature_set


def manifest(train: int = 70, val: int = 5) -> Manifest:
    rows = [Photo(f"t{i}", f"t{i}.jpg", "train", ("c",)) for i in range(train)]
    return Manifest.build("tiny", "/p", [*rows, *(Photo(f"v{i}", f"v{i}.jpg", "val", ("c",)) for i in range(val))])


def test_every_photo_stands_in_one_shard_in_order():
    plan = plan_feature_set(manifest(), "detector-1", 32)
    assert [(s.name, len(s.photos)) for s in plan.shards] == [
        ("features-train-000000", 32),
        ("features-train-000001", 32),
        ("features-train-000002", 6),
        ("features-val-000000", 5),
    ]
    assert [p.key for s in plan.shards for p in s.photos] == [f"t{i}" for i in range(70)] + [f"v{i}" for i in range(5)]
    assert plan.photo_count == 75


def test_same_inputs_same_plan_and_any_other_input_another_feature_set():
    plan = plan_feature_set(manifest(), "detector-1", 32)
    assert plan == plan_feature_set(manifest(), "detector-1", 32)
    others = {
        plan_feature_set(manifest(), "detector-2", 32).name,
        plan_feature_set(manifest(), "detector-1", 16).name,
        plan_feature_set(manifest(val=6), "detector-1", 32).name,
    }
    assert len({plan.name, *others}) == 4
    assert plan.name.startswith("tiny-")
