"""A share in the test process: what it holds, scores of its photos, and the files that it leaves."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.tracking import TrackingConfig
from pipelines.search.hits import Hit
from pipelines.search.index import EncodedQueries
from pipelines.search.index_build import IndexBuild
from pipelines.service.generation import Generation
from pipelines.service.ranking import Found, ShareQuery
from pipelines.service.share import Share, hit_document, shown_source, version_page
from tests.support.indexes import build_here, loaded
from tests.support.small_models import small_set


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> IndexBuild:
    folder = tmp_path_factory.mktemp("built")
    features = small_set(folder, 40)
    return build_here(loaded(folder / "model", features), [features], folder / "indexes")


@pytest.fixture
def shares(build: IndexBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    generation = Generation(build.uri, build.document.model.uri)
    return [Share(generation, number, 2, TrackingConfig(), "cpu") for number in range(2)]


def test_shares_state_what_the_whole_index_is(shares: list[Share], build: IndexBuild):
    first, second = (asyncio.run(share.describe()) for share in shares)
    assert first == second
    assert (first["index"], first["shares"]) == (build.uri, 2)
    assert first["items"] == {name: gallery.items for name, gallery in build.document.galleries.items()}


def test_a_photo_is_scored_by_the_share_that_has_it(shares: list[Share]):
    gallery = shares[0]._index.gallery("photos")
    key = next(key for key in (f"p{number}" for number in range(40)) if len(gallery.rows_of(key, None)))
    pair = asyncio.run(shares[0].score_key("a photo of 7", key, None))
    assert pair is not None
    assert pair["key"] == key
    assert sum(pair["explanation"]["levels"].values()) == pytest.approx(pair["score"], abs=1e-5)
    assert asyncio.run(shares[1].score_key("a photo of 7", key, None)) is None


def test_shares_have_what_encoding_leaves_of_the_time(shares: list[Share], monkeypatch: pytest.MonkeyPatch):
    given = list[float]()

    async def encode(sentence: str) -> EncodedQueries:
        await asyncio.sleep(0.3)
        return shares[0]._index.encode_sentences([sentence])

    async def search(_asked: object, _query: object, seconds: float, _explain: bool) -> Found:
        given.append(seconds)
        return Found(())

    monkeypatch.setattr(shares[0], "encode", encode)
    monkeypatch.setattr("pipelines.service.share.search", search)
    shares[0].__dict__["_clients"] = dict(enumerate(shares))
    asyncio.run(shares[0].search("a dog", 5, 5, None, False, 10.0))
    assert 0 < given[0] <= 9.7


def test_scoring_stops_when_the_caller_leaves(shares: list[Share], monkeypatch: pytest.MonkeyPatch):
    """So that queries behind it do not wait for a result that nobody receives."""
    share, scored, started, released = shares[0], list[int](), threading.Event(), threading.Event()
    exact_scores = share._index.exact_scores

    def slow(gallery: str, queries: Any, rows: np.ndarray) -> np.ndarray:
        scored.append(len(rows))
        started.set()
        assert released.wait(60)
        return exact_scores(gallery, queries, rows)

    async def leave() -> None:
        queries = share._index.encode_sentences(["a photo of 7"])
        near = share._index.candidates("photos", queries, 10)
        task = asyncio.create_task(share.rerank(ShareQuery("photos", queries, 3, 10), near))
        await asyncio.to_thread(started.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        await share._computed(lambda: None)  # behind it, in the same thread

    monkeypatch.setattr("pipelines.search.index.SCORED_AT_ONCE", 2)
    monkeypatch.setattr(share._index, "exact_scores", slow)
    asyncio.run(leave())
    assert scored == [2]


def test_the_folder_is_removed_before_the_process_is_killed(shares: list[Share], tmp_path: Path):
    assert len(list(tmp_path.glob("shan-service-*"))) == 2
    for share in shares:
        share.__del__()
    assert list(tmp_path.glob("shan-service-*")) == []


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a/what?.jpg", "a/what?.jpg"),
        ("s3://bucket/photos/p.jpg", "p.jpg"),
        ("https://user:secret@photos.example/a/p.jpg?X-Amz-Signature=ab/cd#1", "p.jpg"),
        ("https://user:secret@photos.example?id=7", ""),
    ],
)
def test_clients_see_only_the_file_name_of_a_uri(source: str, shown: str):
    hit = Hit(0, 0.5, "d", "test", "p", source, "s3://elsewhere/p.jpg", ())
    assert hit_document(hit)["source"] == shown_source(source) == shown


def test_a_version_has_a_page_on_a_server_only():
    page = version_page("https://user:secret@mlflow.example/", "models:/größe 1/3")
    assert page == "https://mlflow.example/#/models/gr%C3%B6%C3%9Fe%201/versions/3"
    assert version_page("sqlite:////a/mlflow.db", "models:/m/3") is None
