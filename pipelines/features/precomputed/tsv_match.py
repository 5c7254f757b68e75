"""Finds the photo of a data set that a TSV row describes."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from infra.errors import UserError
from pipelines.datasets.manifest import Photo
from pipelines.datasets.spellings import composed


class PhotoFinder:
    """Finds photos by the kinds of image ids in use: a path, a file name, its stem, or the number at the stem's end.

    `COCO_val2014_000000391895.jpg` is found by its name and by `391895`, `1000092795.jpg` by its name and `1000092795`.
    Unicode's composed and decomposed forms are the same name.
    """

    def __init__(self, photos: Iterable[Photo]) -> None:
        self._by_name: dict[str, list[Photo]] = defaultdict(list)
        self._by_number: dict[int, list[Photo]] = defaultdict(list)
        for photo in photos:
            path = PurePosixPath(composed(photo.source))
            for name in {composed(photo.source), path.name, path.stem, photo.key}:
                self._by_name[name].append(photo)
            number = re.search(r"(?:^|_)([0-9]+)$", photo.key)
            if number:
                self._by_number[int(number[1])].append(photo)

    def find(self, image_id: str) -> Photo | None:
        """Returns the photo of an image id, or None. Raises UserError if the id matches more than one photo."""
        name = composed(image_id)
        path = PurePosixPath(name)
        found = self._by_name.get(name) or self._by_name.get(path.name) or self._by_name.get(path.stem)
        if not found and re.fullmatch(r"[0-9]{1,20}", path.stem):
            found = self._by_number.get(int(path.stem))
        if found and len(found) > 1:
            raise UserError(
                f"image_id {image_id} matches {found[0].source} and {found[1].source}; "
                "use file names as image ids in the TSV"
            )
        return found[0] if found else None
