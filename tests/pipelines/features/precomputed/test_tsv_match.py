"""The photo of a data set that an image id of a TSV means."""

import unicodedata

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Photo
from pipelines.features.precomputed.tsv_match import PhotoFinder


def test_photos_are_found_by_name_and_by_number():
    rows = [
        Photo(key, f"{key}.jpg", "train", ("x",)) for key in ("COCO_val2014_000000000009", "77", "a_5", "b_5", "x7y")
    ]
    finder = PhotoFinder(rows)
    for image_id in ("9", "000000000009", "COCO_val2014_000000000009", "val/COCO_val2014_000000000009.jpg"):
        assert finder.find(image_id) is rows[0]
    assert finder.find("77") is rows[1]
    assert finder.find("b_5") is rows[3]
    assert [finder.find(name) for name in ("7", "", "\t", "²", "9" * 30, "nine")] == [None] * 6
    assert [finder.find(name) for name in ("b 5", "b.5", "b_5.tiff")] == [None, None, rows[3]]
    with pytest.raises(UserError, match=r"image_id 5 matches a_5\.jpg and b_5\.jpg"):
        finder.find("5")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_photos_are_found_in_both_unicode_forms(form: str):
    photo = Photo("caf_", unicodedata.normalize(form, "é/café.jpg"), "train", ("x",))
    finder = PhotoFinder([photo])
    for image_id in ("é/café.jpg", "café.jpg", "café"):
        for other in ("NFC", "NFD"):
            assert finder.find(unicodedata.normalize(other, image_id)) is photo
