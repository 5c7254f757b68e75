"""The folder that rendered scenes are written to: reused, completed after a kill, and never another's."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipelines.datasets.scenes import generate as generate_module
from pipelines.datasets.scenes.generate import ScenesConfig, generate
from tests.support.small_scenes import SMALL, digests


def test_a_finished_folder_is_reused(small, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    monkeypatch.setattr(generate_module, "draw_dataset", lambda config: pytest.fail("drawn again"))
    done = []
    assert generate(SMALL, small, done.append) == small / "dataset_scenes.json"
    assert sum(done) == 26
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


@pytest.mark.parametrize("lost", [["dataset_scenes.json"], ["objects.json"], []])
def test_a_half_written_folder_is_completed_to_the_same_bytes(small, tmp_path, lost):
    generate(SMALL, tmp_path)
    gone = [tmp_path / "photos" / name for name in ("test_00000.png", "train_00003.png")]
    for path in [tmp_path / name for name in lost] + gone:
        path.unlink()
    kept = tmp_path / "photos" / "val_00000.png"
    before = kept.stat().st_mtime_ns
    generate(SMALL, tmp_path)
    assert digests(tmp_path) == digests(small)
    assert kept.stat().st_mtime_ns == before


def test_a_killed_run_leaves_no_data_set_and_no_broken_photo(small, tmp_path):
    def stop(_):
        if len(list((tmp_path / "photos").glob("*.png"))) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(SMALL, tmp_path, stop)
    assert not (tmp_path / "dataset_scenes.json").exists()
    whole = digests(small)
    assert all(whole[name] == digest for name, digest in digests(tmp_path).items())
    generate(SMALL, tmp_path)
    assert digests(tmp_path) == whole


def test_a_photo_cut_off_while_it_is_written_does_not_count_as_one(small, tmp_path, monkeypatch):
    save = Image.Image.save

    def cut_off(image, path, *args, **settings):
        if "val_00002" in str(path):
            Path(path).write_bytes(b"half a photo")
            raise OSError("disk full")
        save(image, path, *args, **settings)

    monkeypatch.setattr(Image.Image, "save", cut_off)
    with pytest.raises(OSError, match="disk full"):
        generate(SMALL, tmp_path)
    monkeypatch.undo()
    generate(SMALL, tmp_path)
    assert digests(tmp_path / "photos", "*.png") == digests(small / "photos", "*.png")


def test_a_folder_of_other_settings_is_refused_untouched(small):
    before = digests(small)
    with pytest.raises(ValueError, match=r"scenes of other settings.*choose another folder"):
        generate(replace(SMALL, seed=9), small)
    assert digests(small) == before


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="choose an empty folder"):
        generate(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 1}, "train is 1: give a number of scenes from 2"),
        ({"val": 0}, "val is 0: give"),
        ({"test": 100_000}, "test is 100000: give"),
        ({"seed": -1}, "seed is -1: give an integer of at least 0"),
        ({"twins": 1.2}, "twins is 1.2: give a share between 0"),
    ],
)
def test_a_bad_setting_is_named_with_its_fix(settings, message):
    with pytest.raises(ValueError, match=message):
        ScenesConfig(**settings)
