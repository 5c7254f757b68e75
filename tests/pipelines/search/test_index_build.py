"""Building an index on Ray and after a kill: equal bytes wherever and however often it was started, and extension."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel, load_model
from pipelines.search import index_build
from pipelines.search.config import IndexConfig
from pipelines.search.gallery import Filter
from pipelines.search.index import SearchIndex
from pipelines.search.index_build import EncodePartition, IndexBuild, build_index
from pipelines.search.index_verify import verify_index
from pipelines.search.partition_writer import write_partition
from tests.support import ROOT
from tests.support.faulty_proxy import CONDITION_IGNORED, faulty_proxy
from tests.support.indexes import SMALL, build_here, contents, loaded, tasks
from tests.support.servers import S3Server, aws_environment
from tests.support.small_models import small_set

LISTS = replace(SMALL, candidate_search="ivf", num_lists=4, num_probes=2)


def test_bucket_and_folder_get_the_same_bytes_once(
    ray_session: None,
    s3_server: S3Server,
    tmp_path: Path,
    indexed_features: FeatureSet,
    indexed_model: LoadedModel,
):
    seen = []
    config = replace(LISTS, output=f"s3://{s3_server.bucket}/{tmp_path.name}")
    build = build_index(indexed_model, [indexed_features], config, ClusterConfig(), lambda *count: seen.append(count))
    assert (seen[0], seen[-1]) == ((0, 118), (118, 118))
    before = build.store.objects()
    again = build_index(indexed_model, [indexed_features], config, ClusterConfig())
    assert (again.document, again.partitions_written) == (build.document, 0)
    assert build.store.objects() == before
    for name in build.document.galleries["photos"].first_stage.objects("photos"):
        build.store.delete(name)
    assert build_index(indexed_model, [indexed_features], config, ClusterConfig()).document == build.document
    local = build_here(indexed_model, [indexed_features], tmp_path / "out", LISTS)
    assert {name: build.store.read(name) for name in before} == contents(Path(local.store.uri))
    assert verify_index(build.uri, lambda *_: None).errors == ()
    _check_lists(build, indexed_model, indexed_features)


def _check_lists(build: IndexBuild, model: LoadedModel, features: FeatureSet) -> None:
    """Searches in a bucket by ranged requests, in lists, also with some partitions only."""
    index = SearchIndex.open(build.uri, model)
    (everything,) = index.search_photos(["a photo of 7"], k=10**6)
    assert len(everything) == 59
    (val,) = index.search_photos(["a photo of 7"], k=10**6, where=Filter("val"))
    assert sorted(hit.key for hit in val) == sorted(features.split("val").keys)
    best = {hit.row: hit.score for hit in everything}
    (some,) = index.search_photos(["a photo of 7"], k=5, candidates=5)
    np.testing.assert_allclose([hit.score for hit in some], [best[hit.row] for hit in some], atol=1e-5)
    assert index.explain("a photo", everything[0]).words[0].box is not None
    names = [p.name for p in build.document.galleries["photos"].partitions]
    part = SearchIndex.open(build.uri, model, names[:3])
    queries = index.encode_sentences(["a photo of 7"])
    assert set(part.candidates("photos", queries, 10).rows_QK[0].tolist()) <= set(range(24)) | {-1}


@pytest.mark.long
def test_an_extended_index_has_the_bytes_of_a_new_one(ray_session: None, tmp_path: Path):
    features = small_set(tmp_path, 30)
    model = loaded(tmp_path / "model", features)
    first = build_here(model, [features], tmp_path / "out", LISTS)
    grown = small_set(tmp_path, 48)
    second = build_index(model, [grown], replace(LISTS, output=str(tmp_path / "out")), ClusterConfig())
    assert second.store.uri == first.store.uri
    assert 0 < second.partitions_written < len(tasks([grown], LISTS))
    fresh = build_here(model, [grown], tmp_path / "fresh", LISTS)
    assert second.document == fresh.document
    extended = contents(Path(second.store.uri))
    assert contents(Path(fresh.store.uri)).items() <= extended.items()
    assert SearchIndex.open(first.uri, model).document == first.document


def test_a_killed_build_ends_with_the_same_bytes(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    program = """
import sys
from pathlib import Path
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_model
from tests.support.indexes import build_here
build_here(load_model(None, sys.argv[1]), [FeatureSet.open(sys.argv[2])], Path(sys.argv[3]))
"""
    arguments = [indexed_model.uri, indexed_features.uri, str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], env=environment)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("*.receipt.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = (tmp_path / "killed").iterdir()
    assert not (folder / "index.json").exists()
    build = build_here(indexed_model, [indexed_features], tmp_path / "killed")
    build.store.abort_incomplete_uploads()
    assert contents(folder) == contents(Path(build_here(indexed_model, [indexed_features], tmp_path).store.uri))


def test_a_partition_whose_file_was_lost_or_cut_is_written_again(copy_build: IndexBuild, ray_session: None):
    build, folder = copy_build, Path(copy_build.store.uri)
    before = contents(folder)
    (folder / "index.json").unlink()
    sorted(folder.glob("photos-*.vectors.npy"))[0].unlink()
    sorted(folder.glob("photos-*.receipt.json"))[1].write_bytes(b"{")
    model, features = build_inputs(build)
    config = replace(SMALL, output=str(folder.parent), num_actors=1)
    again = build_index(model, [features], config, ClusterConfig())
    assert again.partitions_written == 2
    assert contents(folder) == before


def test_a_build_that_was_overtaken_publishes_nothing(copy_build: IndexBuild):
    store, (model, features) = copy_build.store, build_inputs(copy_build)
    config = replace(SMALL, output=str(Path(store.uri).parent))

    def publish_another(_done: int, _total: int) -> None:
        store.replace("index.json", b"{}")

    with pytest.raises(UserError, match=r"/index.json: another job has replaced it since this one began"):
        build_index(model, [features], config, ClusterConfig(), publish_another)
    assert store.read("index.json") == b"{}"


@pytest.fixture
def copy_build(tmp_path: Path) -> IndexBuild:
    features = small_set(tmp_path, 30)
    return build_here(loaded(tmp_path / "model", features), [features], tmp_path / "out")


def build_inputs(build: IndexBuild) -> tuple[LoadedModel, FeatureSet]:
    (features,) = build.document.features
    return load_model(None, build.document.model.uri), FeatureSet.open(features.uri)


@pytest.mark.long
def test_a_corrupt_shard_is_one_line_and_partitions_stay(ray_session: None, tmp_path: Path):
    features = small_set(tmp_path, 30)
    model = loaded(tmp_path / "model", features)
    first, *_, last = tasks([features])
    store = open_store(build_here(model, [features], tmp_path / "other").store.uri.replace("other", "out"))
    write_partition(store, first, features.store, model.shan, "float16")
    tar = Path(features.uri, f"{last.shards[-1].name}.tar")
    tar.write_bytes(tar.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"\.tar does not have the sha256 in its receipt; run") as caught:
        build_index(model, [features], replace(SMALL, output=str(tmp_path / "out")), ClusterConfig())
    assert "\n" not in str(caught.value)
    assert Path(store.uri, f"{first.name}.receipt.json").exists()
    assert not Path(store.uri, "index.json").exists()


class Dies:
    """A network whose process ends when it encodes."""

    cpu = eval = to = lambda self, *_: self

    @property
    def config(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_partition_that_ends_its_process_ends_the_build(
    ray_session: None, tmp_path: Path, indexed_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
):
    """By default Ray retries it without limit."""
    monkeypatch.setattr(index_build, "RETRIES", 1)
    features = small_set(tmp_path, 12)
    config = replace(SMALL, output=str(tmp_path / "out"), galleries="photos", num_actors=1)
    with pytest.raises(
        UserError, match=r"^worker processes were lost again and again, or cannot start .*, use nodes with more memory"
    ):
        build_index(replace(indexed_model, shan=Dies()), [features], config, ClusterConfig())  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has a GPU")
def test_an_encoder_whose_torch_has_no_gpu_is_an_error(
    ray_session: None, built: IndexBuild, indexed_model: LoadedModel
):
    (features,) = built.document.features
    feature_set = FeatureSet.open(features.uri)
    encode = EncodePartition(ray.put(indexed_model.shan), [feature_set.store], built.store, IndexConfig(actor_gpus=1))
    with pytest.raises(UserError, match=r"\(index\.actor_gpus\) is cuda, but torch finds no GPU"):
        encode(tasks([feature_set])[0].to_row())


def test_lists_that_no_node_can_compute_are_an_error(ray_session: None, copy_build: IndexBuild):
    """All partitions are complete, so only the first stage is missing."""
    model, features = build_inputs(copy_build)
    config = replace(LISTS, output=str(Path(copy_build.store.uri).parent), actor_cpus=64.0)
    with pytest.raises(UserError, match=r"index\.actor_cpus is 64, which needs 1 x \(64 CPU\), but the cluster has"):
        build_index(model, [features], config, ClusterConfig())


def test_a_store_that_ignores_conditions_is_refused(
    s3_server: S3Server, indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    with (
        faulty_proxy(s3_server.endpoint) as proxy,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
    ):
        config = replace(SMALL, output=f"s3://{s3_server.bucket}/{tmp_path.name}")
        proxy.always(CONDITION_IGNORED)
        with pytest.raises(UserError, match="the store ignores the condition of writes"):
            build_index(indexed_model, [indexed_features], config, ClusterConfig())
