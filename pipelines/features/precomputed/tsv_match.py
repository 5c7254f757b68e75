"""Finds the photo of a data set that a TSV row describes."""

import re
from collections.abc import Iterable

from infra.errors import UserError
from pipelines.datasets.manifest import Photo, safe_key


class PhotoFinder:
    """Finds photos by the kinds of image ids in use: a file name, its stem, or the number at the stem's end.

    `COCO_val2014_000000391895.jpg` is found by its name and by `391895`, `1000092795.jpg` by its name and `1000092795`.
    """

    def __init__(self, photos: Iterable[Photo]) -> None:
        self._by_key: dict[str, Photo] = {}
        self._by_number: dict[int, list[Photo]] = {}
        for photo in photos:
            self._by_key[photo.key] = photo
            number = re.search(r"(?:^|_)([0-9]+)$", photo.key)
            if number:
                self._by_number.setdefault(int(number[1]), []).append(photo)

    def find(self, image_id: str) -> Photo | None:
        """Returns the photo of an image id, or None. Raises UserError if the id matches more than one photo."""
        name = safe_key(image_id)
        if name in self._by_key:
            return self._by_key[name]
        found = self._by_number.get(int(name), []) if re.fullmatch(r"[0-9]{1,20}", name) else []
        if len(found) > 1:
            raise UserError(
                f"image_id {image_id} matches {found[0].source} and {found[1].source}; "
                "use file names as image ids in the TSV"
            )
        return found[0] if found else None
