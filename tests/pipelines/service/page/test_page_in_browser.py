"""The search page in a browser: search, regions of words, keyboard, errors, tokens, a new champion, dark mode."""

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from pipelines.service.config import ServiceConfig
from pipelines.service.wanted import generation_of
from tests.support.browser import Page, browser_page
from tests.support.local_service import LocalService, local_service
from tests.support.processes import wait_until
from tests.support.services import Served, served_models

pytestmark = pytest.mark.integration
SENTENCE = "a photo of 7"
HITS = "document.querySelectorAll('#results li').length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def models(tab: Page, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served_models(tmp_path_factory.mktemp("served"))


def serve(service: LocalService, models: Served, version: int) -> None:
    build = models.index(version)
    asyncio.run(service.serve(generation_of(build.store.uri, build.document), models.config))


@pytest.fixture(scope="module")
def service(models: Served) -> Iterator[LocalService]:
    with local_service(ServiceConfig(max_body_mb=1, deadline_s=30)) as found:
        serve(found, models, 1)
        # The first search on a busy machine may lack a share.
        wait_until(lambda: requests.get(f"{found.url}/search?sentence=a", timeout=60).json()["partial"] is False, 60)
        yield found


@pytest.fixture
def page(tab: Page, service: LocalService) -> Iterator[Page]:
    """The search page, newly opened. Afterwards, the console has no error, and no other origin was asked."""
    tab.events.clear()
    tab.open(service.url)
    tab.wait("document.querySelector('#model').textContent.startsWith('models:/served/')")
    yield tab
    assert tab.problems() == []
    allowed = (f"{service.url}/", f"blob:{service.url}/")
    assert [url for url in tab.requested() if not url.startswith(allowed)] == []


def search(page: Page, sentence: str = SENTENCE) -> None:
    page.value(f"document.querySelector('#sentence').value = {json.dumps(sentence)}")
    page.value("document.querySelector('#query').requestSubmit()")


def png(size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).save(buffer, "PNG")
    return buffer.getvalue()


def explanation(service: LocalService, page: Page) -> Any:
    """Returns the service's explanation of the first hit."""
    hit = requests.get(f"{service.url}/search", {"sentence": SENTENCE, "k": 1}, timeout=30).json()["hits"][0]
    pair = {"sentence": SENTENCE, "key": hit["key"]}
    return requests.post(f"{service.url}/explain", json=pair, timeout=30).json()["explanation"]


def test_a_sentence_finds_photos_whose_thumbnails_load_lazily(page: Page, service: LocalService):
    page.value("document.querySelector('#count').value = '50'")
    search(page)
    page.wait(f"{HITS} === 50")
    hits = requests.get(f"{service.url}/search", {"sentence": SENTENCE, "k": 50}, timeout=30).json()["hits"]
    shown = page.value("[...document.querySelectorAll('#results small')].map((each) => each.textContent)")
    assert shown == [f"{hit['captions'][0]} ({hit['source']})" for hit in hits]
    assert page.text("#status") == "50 photos."
    assert "in the service" in page.text("#latency")
    page.wait("document.querySelector('#results img')?.naturalWidth === 60")
    assert page.value("document.querySelector('#results img').alt") == hits[0]["captions"][0]
    early = sum("/photo?" in url for url in page.requested())
    assert 0 < early < 50
    page.value("document.querySelector('#results li:last-child').scrollIntoView()")
    page.wait("document.querySelector('#results li:last-child img') !== null")


def test_pointing_at_a_word_marks_its_region(page: Page, service: LocalService):
    search(page)
    page.wait("document.querySelector('#results img') && document.querySelector('#words button')")
    expected = explanation(service, page)
    words = page.value("[...document.querySelectorAll('#words button')].map((each) => each.textContent)")
    assert words == [word["word"] for word in expected["words"]]
    unknown = page.value("[...document.querySelectorAll('#words .unknown')].map((each) => each.textContent)")
    assert unknown == [word["word"] for word in expected["words"] if not word["known"]] == ["7"]
    levels = page.value("document.querySelector('#results .levels').innerText").split("\n")
    shown = dict(zip(levels[::2], levels[1::2], strict=True))
    assert shown == {name: f"{score:.3f}" for name, score in expected["levels"].items()}
    assert set(shown) == {"S_L2L", "S_G2L", "S_G2G"}
    page.point_at("#words button:nth-child(4)")
    page.wait("document.querySelector('#results .region') !== null")
    word = expected["words"][3]
    assert page.text("#results .region") == f"{word['word']} {word['weight']:.2f}"
    found = f"region {word['region']}, weight {word['weight']:.2f}"
    assert page.text("#attended").startswith(f"7 (not in the model's vocabulary): {found}")
    left, top, width, height = page.value(
        "(() => { const [a, b] = ['#results .region', '#results img'].map((each) =>"
        " document.querySelector(each).getBoundingClientRect());"
        " return [60 * (a.x - b.x) / b.width, 40 * (a.y - b.y) / b.height,"
        " 60 * a.width / b.width, 40 * a.height / b.height]; })()"
    )
    assert [left, top, left + width, top + height] == pytest.approx(word["box"], abs=0.5)
    page.point_at("h1")
    page.wait("document.querySelector('.region') === null")


def test_a_photo_finds_captions_and_one_is_explained(page: Page, tmp_path: Path):
    (tmp_path / "own.png").write_bytes(png())
    page.choose_file("#photo", tmp_path / "own.png")
    page.wait(f"{HITS} === 10")
    assert page.text("#status") == "10 captions."
    page.wait("document.querySelector('#asked img').naturalWidth === 30")
    page.value("document.querySelector('#results button').click()")
    page.wait("document.querySelector('#asked .region') !== null")  # the first word has the focus
    assert page.text("#results .levels").split("\n")[::2] == ["S_L2L", "S_G2L", "S_G2G"]


def test_the_keyboard_is_enough(page: Page, tmp_path: Path):
    focused = "document.activeElement.id || document.activeElement.textContent"
    page.press("Tab")
    assert page.value(focused) == "sentence"
    page.type(SENTENCE)
    page.press("Enter")
    page.wait("document.querySelector('#results img') && document.querySelector('#words button')")
    seen = []
    while (at := page.value(focused)) != "a":
        assert len(seen) < 10, seen
        seen.append(at)
        page.press("Tab")
    assert seen[:2] == ["sentence", "count"]
    assert "photo" in seen
    page.wait("document.querySelector('#results .region') !== null")
    assert page.text("#attended").startswith("a: region ")
    page.press("Tab", shift=True)
    page.wait("document.querySelector('.region') === null")


def test_every_control_and_photo_has_a_name(page: Page):
    search(page)
    page.wait("document.querySelector('#results img') && document.querySelector('#words button')")
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    roles = ("searchbox", "textbox", "button", "combobox", "link", "image", "complementary", "search", "region")
    found = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert {role for role, _ in found} >= {"searchbox", "button", "combobox", "link", "image", "complementary"}
    assert [node for node in found if not node[1] and node[0] != "search"] == []
    assert {node["role"]["value"] for node in nodes if not node["ignored"]} >= {"status", "alert", "main", "list"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "image cannot be used (not an image of a known format)"),
        (b"x" * 1_100_000, "send at most 1 MB, or a smaller photo"),
    ],
    ids=["text", "large"],
)
def test_a_file_that_cannot_be_used_is_an_error(page: Page, tmp_path: Path, content: bytes, message: str):
    (tmp_path / "file").write_bytes(content)
    page.choose_file("#photo", tmp_path / "file")
    page.wait("document.querySelector('#problem').textContent")
    assert message in page.text("#problem")
    assert page.value(HITS) == 0
    search(page)
    page.wait(f"{HITS} === 10")
    assert page.text("#problem") == ""


def test_an_empty_sentence_is_an_error(page: Page):
    search(page, "  ")
    assert page.text("#problem") == "Type a sentence, or choose a photo."
    search(page, "word " * 600)
    page.wait("document.querySelector('#problem').textContent.includes('at most 512')")


def test_markup_in_a_sentence_is_text(page: Page):
    search(page, "<img src=x onerror=alert(1)> &amp; 22")
    page.wait("document.querySelector('#words button')")
    assert page.value("document.querySelectorAll('#words img').length") == 0


def test_a_lost_network_is_an_error_until_tried_again(page: Page):
    def offline(state: bool) -> None:
        fields = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.command("Network.emulateNetworkConditions", offline=state, **fields)

    offline(True)
    try:
        search(page)
        page.wait("document.querySelector('#problem').textContent.startsWith('The service does not respond.')")
    finally:
        offline(False)
    page.value("document.querySelector('#again').click()")
    page.wait(f"{HITS} === 10")
    assert page.text("#status") == "10 photos."


def test_a_busy_service_is_asked_again(page: Page, service: LocalService):
    service.guard._in_progress += 1000
    try:
        search(page)
        page.wait("document.querySelector('#status').textContent.startsWith('The service is busy; trying again in 1')")
    finally:
        service.guard._in_progress -= 1000
    page.wait(f"{HITS} === 10")
    assert page.text("#status") == "10 photos."


def test_a_partial_result_is_marked(page: Page, service: LocalService):
    class Silent:
        async def candidates(self, query: Any) -> Any:
            await asyncio.sleep(60)

    config = service.served.config
    service.served.config = replace(config, deadline_s=5)
    for share in service.shares:
        share.__dict__["_clients"] = {0: service.shares[0], 1: Silent()}
    try:
        search(page)
        page.wait("document.querySelector('#status').textContent.includes('did not respond in time')")
        assert page.value(HITS) == 10
    finally:
        service.served.config = config
        for share in service.shares:
            share.__dict__["_clients"] = dict(enumerate(service.shares))


def test_a_token_is_asked_for_and_kept_in_the_tab(page: Page, service: LocalService):
    service.guard._token = b"secret"
    try:
        search(page)
        page.wait("document.activeElement.id === 'token'")
        assert "the token is missing or wrong" in page.text("#problem")
        page.type("wrong")
        page.press("Enter")
        page.wait("document.querySelector('#problem').textContent && !document.querySelector('#access').hidden")
        page.value("document.querySelector('#token').value = 'secret'")
        page.press("Enter")
        page.wait("document.querySelector('#results img') !== null")  # thumbnails have the token, too
        page.open(service.url)
        page.wait("document.querySelector('#model').textContent.startsWith('models:/served/')")
        assert page.value("Object.keys(localStorage).length + document.cookie.length") == 0
    finally:
        service.guard._token = b""
        page.value("sessionStorage.clear()")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_follow_the_theme(page: Page, theme: str):
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    back, text = page.value(
        "['backgroundColor', 'color'].map((each) => getComputedStyle(document.body)[each].match(/\\d+/g).map(Number))"
    )
    assert (sum(back) < sum(text)) == (theme == "dark")
    assert abs(sum(back) - sum(text)) > 500  # of 765


def test_the_model_is_linked_to_an_mlflow_server(page: Page, service: LocalService):
    assert page.value("document.querySelector('#model a')") is None  # of a file of SQLite
    about = service.served.gallery.about
    address = "https://mlflow.example/#/models/served/versions/1"
    service.served.gallery.about = about | {"links": {"model": address}}
    try:
        page.open(service.url)
        page.wait(f"document.querySelector('#model a')?.href === '{address}'")
        search(page)
        page.wait(f"{HITS} === 10 && document.querySelector('#model a') !== null")
    finally:
        service.served.gallery.about = about


def test_a_new_champion_is_shown(page: Page, service: LocalService, models: Served):
    assert page.text("#model") == "models:/served/1"
    index = page.text("#index")
    models.register(2)
    serve(service, models, 2)
    search(page)
    page.wait("document.querySelector('#model').textContent === 'models:/served/2'")
    assert page.text("#index") != index
