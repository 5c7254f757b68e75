"""The photos of scikit-image, which the tests use unless SHAN_TEST_PHOTOS is set, form a valid data set."""

from collections import Counter
from pathlib import Path

from pipelines.datasets.decode import decode_photo
from pipelines.datasets.importer import import_dataset
from tests.support.photos import skimage_photos


def test_the_photos_of_scikit_image_form_a_valid_data_set(tmp_path: Path):
    photos = skimage_photos(tmp_path)
    manifest = import_dataset(photos.dataset, photos.folder)
    rows = list(manifest.photos())
    assert Counter(row.split for row in rows) == {"train": 10, "val": 5, "test": 5}
    assert len({caption for row in rows for caption in row.captions}) == 5 * photos.count
    for row in rows:
        assert decode_photo((photos.folder / row.source).read_bytes()).pixels.std() > 1
