"""Small data sets of real photos in the Karpathy format."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

SKIMAGE = {
    "astronaut": "a smiling woman in an orange space suit before a flag and a shuttle",
    "brick": "a wall of grey bricks seen from the front",
    "camera": "a man with a camera on a tripod in a field",
    "cat": "a brown cat looks straight at you",
    "checkerboard": "a grey chess board without pieces",
    "coffee": "a cup of coffee on a saucer on a wooden table",
    "coins": "rows of old coins on a dark cloth",
    "colorwheel": "a wheel of all colours",
    "grass": "grey blades of grass close up",
    "gravel": "small grey stones on the ground",
    "horse": "the black outline of a horse",
    "hubble_deep_field": "many galaxies in a dark sky",
    "immunohistochemistry": "brown and blue cells under a microscope",
    "microaneurysms": "fine vessels in a grey image of an eye",
    "moon": "the grey surface of the moon with a crater",
    "page": "a page of printed text in a shadow",
    "shepp_logan_phantom": "ellipses of a head in a scanner",
    "retina": "the orange back of an eye with vessels",
    "rocket": "a rocket on its launch pad at night",
    "text": "hand-written words on paper",
}

SAYINGS = ("{}", "a photo of {}", "here is {}", "{} fills the picture", "what you see is {}")


@dataclass(frozen=True)
class Photos:
    """A data set on disk."""

    dataset: Path
    folder: Path
    count: int

    def names(self) -> list[str]:
        """Returns the file names of the photos, in the order of the data set."""
        return [image["filename"] for image in json.loads(self.dataset.read_text())["images"]]


def flickr_photos(source: Path, folder: Path) -> Photos:
    """Returns the first 12 train, 6 val and 6 test photos of a Karpathy data set. The photos are not copied."""
    document = json.loads((source / "dataset_flickr8k.json").read_text())
    wanted = {"train": 12, "val": 6, "test": 6}
    images = [
        image
        for split, count in wanted.items()
        for image in [image for image in document["images"] if image["split"] == split][:count]
    ]
    return _write(folder, "flickr24", images, source / "images")


def skimage_photos(folder: Path) -> Photos:
    """Writes the photos that scikit-image's wheel contains, with captions written for the tests."""
    photos = folder / "images"
    photos.mkdir()
    images = []
    for number, (name, caption) in enumerate(SKIMAGE.items()):
        Image.fromarray(_uint8(getattr(skimage.data, name)())).convert("RGB").save(photos / f"{name}.png")
        captions = [said.format(caption) for said in SAYINGS]
        split = ("train", "val", "test", "train")[number % 4]
        images.append({"filename": f"{name}.png", "split": split, "sentences": [{"raw": c} for c in captions]})
    return _write(folder, "skimage", images, photos)


def _uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    pixels = pixels.astype(np.float32)
    return (255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8)


def _write(folder: Path, name: str, images: list, photos: Path) -> Photos:
    dataset = folder / f"dataset_{name}.json"
    dataset.write_text(json.dumps({"dataset": name, "images": images}))
    return Photos(dataset, photos, len(images))
