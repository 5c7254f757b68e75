"""A photo on which the detector fails is rejected, the others are not; a detector that always fails ends the job."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.extraction.attempts import MAX_ATTEMPTS, noted_deaths
from pipelines.extraction.detect import Detect
from tests.support.tiny_detector import BLUE, RED, TinyDetector

pytestmark = pytest.mark.usefixtures("without_cluster")

SHARD = "features-train-000000-00000000"
COLOURS = {"green": (0, 255, 0), "red": RED, "grey": (9, 9, 9), "blue": BLUE}
in_process = multiprocessing.get_context("fork").Process


def row(isolate: bool = False) -> dict[str, object]:
    """Returns a fetched row of four photos of one colour each."""
    photos = [
        {"key": name, "source": f"{name}.jpg", "shape": (12, 20, 3), "width": 20, "height": 12} for name in COLOURS
    ]
    pixels = b"".join(np.full((12, 20, 3), colour, np.uint8).tobytes() for colour in COLOURS.values())
    return {
        "shard": SHARD,
        "part": SHARD,
        "photos": json.dumps(photos),
        "isolate": isolate,
        "pixels": pixels,
        "times": "[]",
    }


def outcomes(detected: dict[str, object]) -> dict[str, str]:
    """Returns the rejection reason of each photo, '' for one with regions."""
    photos = json.loads(str(detected["photos"]))
    assert all(("found" in photo) != ("reason" in photo) for photo in photos)
    return {photo["key"]: photo.get("reason", "") for photo in photos}


def detect(store: FolderStore, fault: str, batch_size: int = 2, deadline_s: float = 60) -> Detect:
    return Detect(TinyDetector(fault=fault), "cpu", batch_size, store, deadline_s)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("red raises", "the detector fails on it (RuntimeError: red)"),
        (
            "red outside",
            "the detector fails on it (ValueError: boxes: some extend outside the photo of 20 x 12 pixels)",
        ),
        ("exits", "the detector fails on it (SystemExit: red)"),
    ],
)
def test_only_the_photo_on_which_the_detector_fails_is_rejected(
    tmp_path: Path, fault: str, reason: str, batch_size: int
):
    found = detect(FolderStore(tmp_path), fault, batch_size)(row())
    assert outcomes(found) == {"green": "", "red": reason, "grey": "", "blue": ""}
    whole = detect(FolderStore(tmp_path), "", batch_size)(row())
    size = len(whole["regions"]) // 4
    assert found["regions"] == whole["regions"][:size] + whole["regions"][2 * size :]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("broken", r"the detector fails on noise \(ZeroDivisionError: broken\); correct the detector"),
        ("count", r"the detector fails on noise \(ValueError: 0 results for 1 photos\)"),
        ("outside", r"the detector fails on noise \(ValueError: boxes: some extend outside"),
    ],
)
@pytest.mark.parametrize("isolate", [False, True])
def test_a_detector_that_always_fails_ends_the_job(tmp_path: Path, fault: str, message: str, isolate: bool):
    with pytest.raises(UserError, match=message):
        detect(FolderStore(tmp_path), fault)(row(isolate))
    assert noted_deaths(FolderStore(tmp_path), SHARD) == {}


def run(store: FolderStore, fault: str, isolate: bool, deadline_s: float = 60) -> int | None:
    """Runs the operator in a process of its own. Returns the exit code."""
    process = in_process(target=detect(store, fault, deadline_s=deadline_s), args=(row(isolate),))
    process.start()
    process.join(20)
    return process.exitcode


def test_a_photo_that_kills_the_detector_is_rejected(tmp_path: Path):
    store = FolderStore(tmp_path)
    assert run(store, "dies", isolate=False) == -9
    assert noted_deaths(store, SHARD) == {}  # two photos were in work
    for attempt in range(MAX_ATTEMPTS):
        assert run(store, "dies", isolate=True) == -9
        assert noted_deaths(store, SHARD) == {"run the detector on red": attempt + 1}
    found = detect(store, "dies")(row(isolate=True))
    reason = "its process died in 3 attempts to run the detector on it"
    assert outcomes(found) == {"green": "", "red": reason, "grey": "", "blue": ""}
    assert found["isolate"]


def test_a_photo_on_which_the_detector_hangs_ends_the_process(tmp_path: Path):
    store = FolderStore(tmp_path)
    assert run(store, "hangs", isolate=True, deadline_s=0.5) == 1
    assert noted_deaths(store, SHARD) == {"run the detector on red": 1}


def test_a_photo_that_breaks_the_process_is_rejected(tmp_path: Path):
    """Every later call of the process fails, as after an error of CUDA."""
    store = FolderStore(tmp_path)
    assert run(store, "red poisons", isolate=False) == 1
    for attempt in range(MAX_ATTEMPTS):
        assert run(store, "red poisons", isolate=True) == 1
        assert noted_deaths(store, SHARD) == {"run the detector on red": attempt + 1}
    found = outcomes(detect(store, "red poisons")(row(isolate=True)))
    assert [key for key, reason in found.items() if reason] == ["red"]


def test_a_detector_that_always_ends_its_process_ends_the_job(tmp_path: Path):
    store = FolderStore(tmp_path)
    assert [run(store, "always dies", isolate=True) for _ in range(MAX_ATTEMPTS)] == [-9] * MAX_ATTEMPTS
    with pytest.raises(UserError, match=r"the detector ended its process 3 times on noise; read the log"):
        detect(store, "always dies")(row(isolate=True))


def test_features_beyond_float16_reject_their_photo(tmp_path: Path):
    found = Detect(TinyDetector(scale=1e8), "cpu", 2, FolderStore(tmp_path))(row())
    assert set(outcomes(found).values()) == {"features beyond float16 (65504)"}
