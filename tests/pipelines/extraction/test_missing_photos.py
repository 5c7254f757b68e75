"""Tests of the check for missing photos."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.missing_photos import check_missing_photos


def manifest(missing: int, total: int) -> Manifest:
    rows = [Photo(f"p{n}", f"p{n}.jpg", "train", (), "" if n < missing else "token") for n in range(total)]
    web = Photo("web", "http://host/a.jpg", "train", ())
    return Manifest.build("d", "/photos", [*rows, web])


@pytest.mark.parametrize(("missing", "cap"), [(0, 0.0), (1, 0.01), (50, 0.5)])
def test_as_many_as_the_cap_permits_are_accepted(missing: int, cap: float):
    check_missing_photos(manifest(missing, 99), cap)


def test_more_are_counted_and_ten_are_named():
    with pytest.raises(UserError) as caught:
        check_missing_photos(manifest(12, 99), 0.1)
    names = ", ".join(f"p{n}.jpg" for n in range(10))
    assert str(caught.value) == (
        "/photos: 12 of 100 photos of data set d do not exist, more than extract.max_rejected (0.1 of them): "
        f"{names}, ...; give the right photo folder, or remove them from the data set, or raise extract.max_rejected"
    )


def test_all_photos_cannot_be_missing(tmp_path: Path):
    rows = [Photo("a", "a.jpg", "train", ()), Photo("b", "b.jpg", "train", ())]
    with pytest.raises(UserError, match=r"2 of 2 photos of data set d do not exist, all of them: a\.jpg, b\.jpg; give"):
        check_missing_photos(Manifest.build("d", str(tmp_path), rows), 1.0)
