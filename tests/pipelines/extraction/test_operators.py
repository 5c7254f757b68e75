"""Operators without Ray: a photo that ends the process that decodes it is rejected, the others are not."""

import json
import multiprocessing
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from infra.storage.folder import FolderStore
from pipelines.datasets import read_photos
from pipelines.datasets.decode import DecodedPhoto, decode_photo
from pipelines.datasets.manifest import Photo
from pipelines.extraction import operators
from pipelines.extraction.attempts import MAX_ATTEMPTS, noted_deaths
from pipelines.extraction.detect import Detect
from pipelines.extraction.operators import Commit, Fetch, part_row
from pipelines.features.receipt import Receipt
from pipelines.features.shard_plan import PlannedPart
from tests.support import ROOT
from tests.support.tiny_detector import TinyDetector

pytestmark = pytest.mark.usefixtures("without_cluster")

SHARD = "features-train-000000-00000000"
PHOTOS = [Photo(name, f"{name}.png", "train", ("x",)) for name in ("good", "bad", "other")]
ROW = part_row(SHARD, PlannedPart(SHARD, PHOTOS), {})


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Fetches three photos, one of which ends the process that decodes it."""
    for number, name in enumerate(("good", "bad", "other")):
        Image.fromarray(skimage.data.chelsea()[number : 60 + number, :80]).save(tmp_path / f"{name}.png")
    deadly = (tmp_path / "bad.png").read_bytes()

    def decode(data: bytes) -> DecodedPhoto:
        return os._exit(11) if data == deadly else decode_photo(data)

    monkeypatch.setattr(operators, "decode_photo", decode)
    return Fetch(str(tmp_path), FolderStore(tmp_path / "features"))


def kill_by_photo(fetch: Fetch, store: FolderStore, attempt: str) -> None:
    """Has a photo end its process as often as it may; each death is noted."""
    for deaths in range(1, MAX_ATTEMPTS + 1):
        process = multiprocessing.get_context("fork").Process(target=fetch, args=(ROW,))
        process.start()
        process.join(20)
        assert process.exitcode == 11
        assert noted_deaths(store, SHARD) == {attempt: deaths}


def test_a_photo_that_kills_its_decoder_is_rejected(fetch: Fetch, tmp_path: Path):
    store = FolderStore(tmp_path / "features")
    store.replace(f"{SHARD}.attempts.json", b'{"decode good": 1}')  # of a process that was lost with its node
    kill_by_photo(fetch, store, "decode bad")
    row = fetch(ROW)
    photos = {photo["key"]: photo for photo in json.loads(row["photos"])}
    assert [key for key, photo in photos.items() if "reason" in photo] == ["bad"]
    assert photos["bad"]["reason"] == "its process died in 3 attempts to decode it"
    # Its bytes are known, so that a rerun does not try it again before the file changes.
    assert photos["bad"]["sha256"] == sha256((tmp_path / "bad.png").read_bytes()).hexdigest()
    assert row["isolate"]
    done = Commit(store)(Detect(TinyDetector(), "cpu", 2, store)(row))
    receipt = Receipt.from_json(done["receipt"])
    assert (receipt.keys, [row.key for row in receipt.rejected]) == (("good", "other"), ["bad"])
    assert set(store.objects()) == {f"{SHARD}.tar", f"{SHARD}.receipt.json"}


def test_a_photo_that_kills_its_reader_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read(uri: str) -> bytes:
        return os._exit(11) if uri.endswith("/bad.png") else b"no photo"

    monkeypatch.setattr(read_photos, "read_photo", read)
    store = FolderStore(tmp_path)
    store.replace(f"{SHARD}.attempts.json", b'{"read good": 1}')  # of a process that was lost with its node
    fetch = Fetch(str(tmp_path), store)
    kill_by_photo(fetch, store, "read bad")
    _, bad, other = json.loads(fetch(ROW)["photos"])
    assert bad["reason"] == "its process died in 3 attempts to read it"
    assert other["sha256"] == sha256(b"no photo").hexdigest()


def test_tasks_do_not_load_torch(tmp_path: Path):
    """It takes a process 2 s, and Ray starts processes for tasks as it needs them."""
    Image.fromarray(skimage.data.chelsea()[:60, :80]).save(tmp_path / "good.png")
    program = """
import sys
from infra.storage.open import open_store
from pipelines.datasets.manifest import Photo
from pipelines.extraction.detect import Detect
from pipelines.extraction.join import join_parts
from pipelines.extraction.operators import Commit, Fetch, part_row
from pipelines.features.shard_plan import PlannedPart
from tests.support.tiny_detector import TinyDetector

folder, shard = sys.argv[1:]
store = open_store(f"{folder}/features")
part = PlannedPart(f"{shard}.part-0000-00000000", [Photo("good", "good.png", "train", ("x",))])
Commit(store)(Detect(TinyDetector(), "cpu", 2, store)(Fetch(folder, store)(part_row(shard, part, {}))))
join_parts(store, shard, "0" * 64, [part.name])
print(*{"torch", "webdataset", "mlflow"} & sys.modules.keys())
"""
    arguments = [sys.executable, "-c", program, str(tmp_path), SHARD]
    assert subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "\n"
