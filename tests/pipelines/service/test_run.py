"""The service on Ray Serve: exact rankings over two shares, photos, errors, limits, and a champion that changes."""

import io
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from infra.cluster import ClusterConfig
from infra.cluster_resources import wait_for_resources
from infra.errors import UserError
from infra.log import log
from pipelines.search.gallery import Filter
from pipelines.search.index import SearchIndex
from pipelines.search.index_commands import load_version
from pipelines.service.config import ServiceConfig
from pipelines.service.deployments import DRAIN_S
from pipelines.service.generation import Generation
from pipelines.service.http_api import PATHS, PHOTO_HEADERS
from pipelines.service.openapi import ErrorDocument, ExplainResponse, HealthResponse, ScoreResponse, SearchResponse
from pipelines.service.run import gallery_resources, report_problem, running_service
from tests.benchmarks import service_load
from tests.support.feature_sets import HEIGHT, WIDTH
from tests.support.processes import wait_until, workers
from tests.support.services import NAME, Served, ask, served_models

pytestmark = pytest.mark.usefixtures("ray_session")
DEADLINE_S = 15
"""Deadline of a request, longer than new processes of a service take all cores of a busy machine."""
SENTENCES = ("a photo of 7", "number 22 <again>", "none of these words", "犬が走る")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served_models(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def url(served: Served, ray_session: None) -> Iterator[str]:
    from ray import serve

    config = ServiceConfig(
        port=free_port(), num_shares=2, cpus=0.5, follow_every_s=1, max_body_mb=1, deadline_s=DEADLINE_S
    )
    index = served.index(1).store.uri
    with running_service(index, None, config, served.config, ClusterConfig()) as found:
        wait_until(lambda: ask(f"{found}/healthz")[0] == 200, 60)
        # The first searches on a busy machine may exceed the deadline of the shares.
        wait_until(lambda: ask(f"{found}/search?sentence=a")[1].get("partial") is False, 60)
        yield found
    serve.shutdown()


@pytest.fixture(scope="module")
def alone(served: Served, url: str) -> SearchIndex:
    """Returns the index that is served, all of it in the test process."""
    return SearchIndex.open(ask(f"{url}/healthz")[1]["index"], load_version(f"models:/{NAME}/1", served.config))


def png(color: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), color).save(buffer, "PNG")
    return buffer.getvalue()


def ranking(hits: Any) -> bytes:
    return json.dumps([[hit["key"], hit["split"], hit["source"], hit["captions"]] for hit in hits]).encode()


@pytest.mark.parametrize("where", [{}, {"split": "val"}, {"split": "train", "key_prefix": "p1"}])
def test_a_search_ranks_as_one_process_does(url: str, alone: SearchIndex, where: dict[str, str]):
    filter_ = Filter(where["split"], where.get("key_prefix", "")) if where else None
    for sentence in SENTENCES:
        status, found, _ = ask(
            f"{url}/search", {"sentence": sentence, "k": 7, "candidates": 9, "explain": True} | where
        )
        assert (status, found["partial"], found["gallery"]) == (200, False, "photos")
        (expected,) = alone.search_photos([sentence], 7, 9, filter_)
        assert ranking(found["hits"]) == ranking([vars(hit) for hit in expected])
        scores = [hit["score"] for hit in found["hits"]]
        assert scores == pytest.approx([hit.score for hit in expected], abs=1e-6)
        levels = [sum(hit["explanation"]["levels"].values()) for hit in found["hits"]]
        assert levels == pytest.approx(scores, abs=1e-5)


def test_requests_at_once_have_the_results_of_single_ones(url: str):
    def search(sentence: str) -> Any:
        status, found, _ = ask(f"{url}/search", {"sentence": sentence})
        return status, ranking(found["hits"])

    single = {sentence: search(sentence) for sentence in SENTENCES}
    with ThreadPoolExecutor(8) as clients:
        for sentence, found in zip(SENTENCES * 6, clients.map(search, SENTENCES * 6), strict=True):
            assert found == single[sentence]


@pytest.mark.long  # the load run is a benchmark
def test_its_load_is_measured(
    url: str, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(service_load, "TrackingConfig", lambda: served.config)
    arguments = [url, served.index(1).store.uri, "--clients", "2", "--seconds", "3"]
    monkeypatch.setattr(sys, "argv", ["service_load", *arguments])
    service_load.main()
    table = capsys.readouterr().out
    assert "photos, 2 clients; 40 of 40 rankings equal those of one process" in table
    assert table.count("200: ") == service_load.WINDOWS


def test_a_photo_finds_captions_and_has_scores(url: str):
    status, found, _ = ask(f"{url}/search?k=3", png(), Content_Type="image/png")
    assert (status, found["gallery"], len(found["hits"])) == (200, "captions", 3)
    best = found["hits"][0]
    _, pair, _ = ask(f"{url}/explain?sentence={best['captions'][0]}", png(), Content_Type="image/png")
    assert pair["score"] == pytest.approx(best["score"], abs=1e-3)
    assert sum(pair["explanation"]["levels"].values()) == pytest.approx(pair["score"], abs=1e-5)
    assert all(len(word["box"]) == 4 for word in pair["explanation"]["words"])


def test_a_photo_of_the_index_has_the_score_that_a_search_finds(url: str):
    hit = ask(f"{url}/search?sentence=a+photo+of+7&k=1")[1]["hits"][0]
    status, pair, _ = ask(f"{url}/score", {"sentence": "a photo of 7", "key": hit["key"]})
    assert status == 200
    assert pair["score"] == pytest.approx(hit["score"], abs=1e-6)
    assert "explanation" not in pair
    assert "photo" not in pair  # where it is stored


def test_responses_have_the_fields_of_the_api_description(url: str):
    found = ask(f"{url}/search?sentence=a+photo+of+7&k=2&explain=true")[1]
    key = found["hits"][0]["key"]
    for document, kind in (
        (found, SearchResponse),
        (ask(f"{url}/search?k=2", png(), Content_Type="image/png")[1], SearchResponse),
        (ask(f"{url}/score", {"sentence": "a", "key": key})[1], ScoreResponse),
        (ask(f"{url}/explain", {"sentence": "a", "key": key})[1], ExplainResponse),
        (ask(f"{url}/explain?sentence=a", png(), Content_Type="image/png")[1], ExplainResponse),
        (ask(f"{url}/search?sentence=a&k=0")[1], ErrorDocument),
    ):
        kind.model_validate_json(json.dumps(document), extra="forbid")


def test_a_photo_of_the_index_has_a_thumbnail(url: str):
    for hit in ask(f"{url}/search?sentence=a+photo+of+7&k=5")[1]["hits"]:
        status, content, headers = ask(f"{url}/photo?key={hit['key']}&dataset={hit['dataset']}")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert {name: headers[name] for name in PHOTO_HEADERS} == PHOTO_HEADERS
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (int(headers["Photo-Width"]), int(headers["Photo-Height"])) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/search?sentence=+", None, 422, "is empty; give a sentence"),
        ("/search?sentence=a&k=0", None, 422, "k is 0; it must be at least 1"),
        ("/search?sentence=a&k=1000000", None, 422, "k is 1000000; it must be at most 1000"),
        ("/search?sentence=a&split=dev", None, 422, "split is dev; the index has test, train, val"),
        ("/search?sentence=a&limit=3", None, 422, "limit is not a field"),
        ("/search", {"sentence": "word " * 10_000}, 422, "at most 20000 characters"),
        ("/search", {"image": "bm8gaW1hZ2U="}, 400, "image cannot be used (not an image of a known format)"),
        ("/search", {"image": "?"}, 400, "image is not base64 text"),
        ("/search", {"image_uri": "/etc/passwd"}, 422, "which the service may not read; send the photo's bytes"),
        ("/search", b"{", 400, "the body is not JSON"),
        ("/search", b"x" * 1_100_000, 413, "send at most 1 MB"),
        ("/search", {"sentence": [0] * 200_000}, 413, "beside image; send at most 300 kB of other fields"),
        ("/score", {"sentence": "a", "key": "none"}, 404, "key is none, which the index does not have"),
        ("/photo", None, 422, "key is missing; give it"),
        ("/photo?key=none", None, 404, "key is none, which the index does not have"),
        ("/other", None, 404, "the paths are in /openapi.json"),
        ("/score", None, 405, "the paths are in /openapi.json"),
    ],
)
def test_bad_input_has_a_status_and_a_fix(url: str, path: str, body: Any, status: int, message: str):
    found, document, headers = ask(f"{url}{path}", body)
    assert (found, document["request_id"]) == (status, headers["X-Request-ID"])
    assert set(document) == {"field", "value", "message", "request_id"}
    assert message in document["message"]


def test_a_client_may_leave_during_an_upload(url: str):
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nfirst bytes")
        time.sleep(0.5)
    line = 'shan_service_requests_total{path="/search",status="%s"}'
    wait_until(lambda: line % 499 in ask(f"{url}/metrics")[1].decode(), 20)
    assert line % 500 not in ask(f"{url}/metrics")[1].decode()


def test_the_id_of_a_request_is_in_the_logs_of_its_processes(url: str):
    given = "client-7.of_this-test"
    _, _, headers = ask(f"{url}/search?sentence=a+photo+of+7", X_Request_ID=given)
    assert headers["X-Request-ID"] == given
    _, _, headers = ask(f"{url}/search?k=3", png(), Content_Type="image/png")
    own = headers["X-Request-ID"]
    by_share = {"candidates", "rerank"}
    steps = {"router": {"request"}, "share-0": by_share, "share-1": by_share}
    for request, expected in ((given, steps), (own, steps | {"detector": {"detect"}})):
        found = steps_of(request)
        searching = {deployment: names - by_share for deployment, names in found.items()}
        assert {name for names in searching.values() for name in names} >= {"search", "encode"}
        assert {deployment: names - {"search", "encode"} for deployment, names in found.items()} == expected


def steps_of(request: str) -> dict[str, set[str]]:
    """Returns the steps of a request that the logs of Ray Serve contain, by deployment."""
    folder = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1] / "logs" / "serve"
    found: dict[str, set[str]] = {}
    for file in folder.glob("replica_*.log"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if request in line and (step := re.search(r" -- (\w+): ", line)):
                deployment = file.stem.split("_")[-2]
                found.setdefault(deployment, set()).add(step[1])
    return found


def test_another_service_is_refused(url: str, served: Served):
    found = ServiceConfig(port=int(url.rpartition(":")[2]), deadline_s=DEADLINE_S)
    index = served.index(1).uri  # a snapshot, which is another index
    for config, message in (
        (replace(found, port=free_port()), f"Ray Serve runs on this cluster with host 127.0.0.1 and port {found.port}"),
        (found, f"--index is {index}, but a service of {index.partition('@')[0]} runs on this cluster"),
    ):
        with (
            pytest.raises(UserError, match=re.escape(message)),
            running_service(index, None, config, served.config, ClusterConfig(address="auto")),
        ):
            pass
    assert ask(f"{url}/healthz")[0] == 200


def test_a_cluster_without_room_is_an_error():
    request = gallery_resources(Generation("i@0", "models:/m/1"), ServiceConfig(num_replicas=2, gpus=1))
    assert request.bundles == [{"CPU": 1.0, "GPU": 1}] * 3
    with pytest.raises(
        UserError, match=r"service.num_replicas is 2 .* needs 3 x \(1 CPU, 1 GPU\), but the cluster has"
    ):
        wait_for_resources(ClusterConfig(), request)


def test_a_new_problem_is_printed_once(monkeypatch: pytest.MonkeyPatch):
    printed: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: printed.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(log, "handlers", [handler])
    shown, states = "", [{"problem": ""}, {"problem": "a"}, {"problem": "a"}, {}, {"problem": "a"}, {"problem": "b"}]
    for state in [*states, {"problem": ""}, {"problem": "b"}]:
        shown = report_problem(state, shown)
    assert printed == ["a", "b", "b"]


def test_what_is_served_is_described(url: str):
    _, health, _ = ask(f"{url}/healthz")
    assert (health["model"], health["champion"], health["problem"]) == ("models:/served/1", "models:/served/1", "")
    assert (health["items"], health["shares"]) == ({"photos": 59, "captions": 118}, 2)
    paths = ask(f"{url}/openapi.json")[1]["paths"]
    assert set(paths) == PATHS - {"/openapi.json"}
    HealthResponse.model_validate_json(json.dumps(health), extra="forbid")
    assert ask(f"{url}/search?sentence=a&k=0")[0] == 422
    text = ask(f"{url}/metrics")[1].decode()
    assert "shan_service_champion_served 1.0" in text
    assert 'shan_service_requests_total{path="/search",status="422"}' in text
    sums = {
        s.labels["stage"]: s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
        if s.name == "shan_service_stage_seconds_sum"
    }
    assert set(sums) >= {"encode", "candidates", "rerank"}
    assert all(0 < seconds < 600 for seconds in sums.values())


@pytest.mark.long  # test_ranking.py has the parts
def test_a_slow_share_is_left_out_until_it_responds(url: str):
    def search() -> tuple[int, Any]:
        status, found, _ = ask(f"{url}/search?sentence=a+photo+of+7&k=50")
        return status, (found.get("partial"), tuple(found.get("missing_shares", ())), len(found.get("hits", ())))

    complete = (200, (False, (), 50))
    assert search() == search() == complete  # both shares have run one
    (slow,) = workers("share-1")
    os.kill(slow, signal.SIGSTOP)
    try:
        seen = [search() for _ in range(3)]
    finally:
        os.kill(slow, signal.SIGCONT)
    partial = {found for status, found in seen if status == 200}
    assert {found[:2] for found in partial} == {(True, (1,))}
    assert [status for status, _ in seen].count(504) <= 1
    assert "shan_service_partial_results_total 0.0" not in ask(f"{url}/metrics")[1].decode()
    wait_until(lambda: search() == complete, 60)


@pytest.mark.long  # a minute; test_page_in_browser.py and test_follower.py switch, too
def test_a_new_champion_is_served_without_a_failed_request(url: str, served: Served):
    served.register(2)
    served.promote(1, 2)
    wait_until(lambda: "models:/served/2 has no index beside" in ask(f"{url}/healthz")[1]["problem"], 60)
    assert ask(f"{url}/search?sentence=a")[1]["model"] == "models:/served/1"
    assert "shan_service_champion_served 0.0" in ask(f"{url}/metrics")[1].decode()
    seen: list[tuple[int, str]] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            status, found, _ = ask(f"{url}/search?sentence=a+photo+of+7&k=3")
            seen.append((status, found.get("model", str(found))))
            time.sleep(0.02)

    with ThreadPoolExecutor(2) as clients:
        running = [clients.submit(load) for _ in range(2)]
        served.index(2)
        try:
            wait_until(lambda: (200, "models:/served/2") in seen, 120)
            wait_until(lambda: ask(f"{url}/healthz")[1]["problem"] == "", 60)
        finally:
            ended.set()
        for each in running:
            each.result()
    assert {status for status, _ in seen} == {200}
    wait_until(lambda: not workers("shan-gallery-000001"), DRAIN_S + 60)
    assert seen[-1][1] == "models:/served/2"
    assert "shan_service_champion_served 1.0" in ask(f"{url}/metrics")[1].decode()
    alone = SearchIndex.open(ask(f"{url}/healthz")[1]["index"], load_version(f"models:/{NAME}/2", served.config))
    (expected,) = alone.search_photos(["a photo of 7"], 5)
    assert ranking(ask(f"{url}/search?sentence=a+photo+of+7&k=5")[1]["hits"]) == ranking(
        [vars(hit) for hit in expected]
    )


def test_paths_of_this_machine_stay_inside(url: str, tmp_path: Path):
    text = json.dumps(ask(f"{url}/search?sentence=a")[1]["hits"])
    assert str(tmp_path.parent) not in text
