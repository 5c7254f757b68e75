"""Writes the data set of rendered scenes: photos, the Karpathy JSON and the ground truth.

    folder/config.json           the settings, written first: whose half-written folder this is
    folder/photos/test_00000.png ...
    folder/objects.json          per photo its background, things with boxes, and its twin
    folder/dataset_scenes.json   the captions, written last: the data set is complete when it exists

PNG and not JPEG: decoders of JPEG differ in the last bit, so the same file can give other features elsewhere;
a PNG is the same pixels wherever it is read. The pixels are made of integers and of Python's own random
stream.
"""

import json
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from infra.errors import UserError
from pipelines.datasets.scenes.captions import CAPTIONS, tokens
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.dataset import Entry, draw_dataset
from pipelines.datasets.scenes.render import Box, find_boxes, render

__all__ = ["DATASET", "OBJECTS", "PHOTOS", "ScenesConfig", "generate"]

log = logging.getLogger(__name__)

DATASET, OBJECTS, CONFIG, PHOTOS = "dataset_scenes.json", "objects.json", "config.json", "photos"
COMPRESS = {"compress_level": 6, "compress_type": zlib.Z_RLE}
"""Plain zlib and zlib-ng, which different builds of Pillow carry, pack the same bytes differently, except with
this strategy (checked on 40 photos). It is also three times as fast as the default, for 9 % larger files."""


def generate(config: ScenesConfig, folder: Path, progress: Callable[[int], object] | None = None) -> Path:
    """Makes sure that `folder` holds the data set of `config`; returns the path of its Karpathy JSON.

    A complete data set is left alone, a half-written one is completed: only photos that are missing are
    drawn. `progress` is called with the number of photos done since its last call.

    Raises:
        UserError: the folder holds scenes of other settings. Nothing is touched then.
    """
    folder = Path(folder)
    report = progress or (lambda _: None)
    _claim(config, folder)
    if _is_complete(config, folder):
        log.info("%s already holds these scenes", folder)
        report(config.train + config.val + config.test)
        return folder / DATASET
    (folder / PHOTOS).mkdir(exist_ok=True)
    entries = draw_dataset(config)
    for entry in entries:
        path = folder / PHOTOS / entry.filename
        if not path.exists():
            _write_photo(path, render(entry.scene).image)
        report(1)
    truth = {entry.filename: _describe(entry, find_boxes(entry.scene)) for entry in entries}
    _write_json(folder / OBJECTS, {"config": config.as_json(), "photos": truth})
    _write_json(folder / DATASET, _karpathy(config, entries))
    return folder / DATASET


def _claim(config: ScenesConfig, folder: Path) -> None:
    """Marks the folder as this config's before the first photo, or refuses it as another's."""
    found = _read_json(folder / CONFIG)
    if found is None and any((folder / name).exists() for name in (DATASET, OBJECTS, PHOTOS)):
        raise UserError(f"{folder} holds files of another data set and no {CONFIG}: choose an empty folder")
    if found not in (None, config.as_json()):
        raise UserError(
            f"{folder} holds scenes of other settings ({found}, wanted {config.as_json()}): "
            "choose another folder, or delete this one to have it made anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if found is None:
        _write_json(folder / CONFIG, config.as_json())


def _is_complete(config: ScenesConfig, folder: Path) -> bool:
    dataset = _read_json(folder / DATASET)
    if dataset is None or dataset.get("config") != config.as_json() or not (folder / OBJECTS).exists():
        return False
    present = {path.name for path in (folder / PHOTOS).glob("*.png")}
    return all(image["filename"] in present for image in dataset["images"])


def _karpathy(config: ScenesConfig, entries: list[Entry]) -> dict[str, Any]:
    """The layout of Karpathy's dataset_flickr30k.json; `config` is ours, and other readers pass it over."""
    return {
        "dataset": "scenes",
        "config": config.as_json(),
        "images": [_karpathy_image(imgid, entry) for imgid, entry in enumerate(entries)],
    }


def _karpathy_image(imgid: int, entry: Entry) -> dict[str, Any]:
    sentids = [imgid * CAPTIONS + k for k in range(CAPTIONS)]
    return {
        "filename": entry.filename,
        "imgid": imgid,
        "split": entry.split,
        "sentids": sentids,
        "sentences": [
            {"tokens": tokens(raw), "raw": raw, "imgid": imgid, "sentid": sentid}
            for sentid, raw in zip(sentids, entry.captions, strict=True)
        ],
    }


def _describe(entry: Entry, boxes: tuple[Box, ...]) -> dict[str, Any]:
    """Ground truth of one photo; its objects stand from back to front."""
    return {
        "split": entry.split,
        "background": entry.scene.background,
        "twin": None if entry.twin is None else f"{entry.twin}.png",
        "swap": entry.swap,
        "objects": [
            {"shape": t.shape, "colour": t.colour, "size": t.size, "texture": t.texture, "box": list(box)}
            for t, box in zip(entry.scene.things, boxes, strict=True)
        ],
    }


def _write_photo(path: Path, image: Image.Image) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    image.save(part, "PNG", **COMPRESS)
    part.replace(path)


def _write_json(path: Path, content: object) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")
    part.replace(path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
