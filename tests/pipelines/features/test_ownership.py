"""Folders of feature sets that belong to another data set are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.ownership import require_dataset
from tests.support.bad_stores import UNREADABLE
from tests.support.feature_sets import manifest, write_set


def renamed(photos: Manifest, name: str) -> Manifest:
    return Manifest.build(name, photos.root, photos.photos())


def test_a_changed_data_set_keeps_its_folder(tmp_path: Path):
    store = write_set(tmp_path, manifest(tmp_path)).store
    for changed in (
        manifest(tmp_path),
        manifest(tmp_path, 12),
        manifest(tmp_path, 3),
        manifest(tmp_path, said="edited"),
    ):
        require_dataset(store, changed)
    require_dataset(FolderStore(tmp_path / "empty"), manifest(tmp_path))
    (tmp_path / "file").write_text("")
    require_dataset(FolderStore(tmp_path / "file" / "below"), manifest(tmp_path))  # the first write reports it
    with pytest.raises(UserError, match="belongs to another data set"):  # the store does refuse some
        require_dataset(store, renamed(manifest(tmp_path), "small"))


@pytest.mark.parametrize("source", ["a.tar/{}-{}00/p{}.png", "a.parquet/image/{}{}/p{}.png"])
def test_a_file_of_photos_that_is_written_again_keeps_its_folder(tmp_path: Path, source: str):
    """Its photos are at other places then."""

    def packed(first: int) -> Manifest:
        rows = manifest(tmp_path, 6).photos()
        return Manifest.build(
            "tiny", "/data", [replace(p, source=source.format(first + n, first + n, n)) for n, p in enumerate(rows)]
        )

    store = write_set(tmp_path, packed(1)).store
    require_dataset(store, packed(2))


def test_the_folder_of_another_data_set_is_refused(tmp_path: Path):
    photos = manifest(tmp_path)
    store = write_set(tmp_path, photos).store
    other = Manifest.build("tiny", photos.root, [Photo("other", "other.png", "train", ("x",))])
    for refused in (renamed(photos, "small"), other):
        with pytest.raises(
            UserError, match=rf"^{store.uri} belongs to another data set, 'tiny' with other photos; give"
        ):
            require_dataset(store, refused)


def test_an_outage_is_not_taken_for_a_lost_manifest(tmp_path: Path):
    class Failing(FolderStore):
        def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
            if name.startswith("manifest-"):
                raise StorageError(f"{self.uri}: the store does not respond")
            return super().read(name, offset, size)

    store = write_set(tmp_path, manifest(tmp_path)).store
    with pytest.raises(StorageError, match="the store does not respond"):
        require_dataset(Failing(store.root), manifest(tmp_path, said="edited"))


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_an_unreadable_manifest_is_not_taken_for_lost(tmp_path: Path):
    store = write_set(tmp_path, manifest(tmp_path)).store
    (path,) = store.root.glob("manifest-*")
    path.unlink()
    path.symlink_to(UNREADABLE)
    other = Manifest.build("tiny", str(tmp_path), [Photo("other", "other.png", "train", ("x",))])
    with pytest.raises(StorageError, match=rf"^{path}: cannot be accessed"):
        require_dataset(store, other)
    path.unlink()
    path.write_bytes(b"PAR1")
    require_dataset(store, other)


def test_a_lost_manifest_does_not_lock_the_folder(tmp_path: Path):
    photos = manifest(tmp_path)
    store = write_set(tmp_path, photos).store
    for path in store.root.glob("manifest-*"):
        path.unlink()
    require_dataset(store, manifest(tmp_path, said="edited"))
    with pytest.raises(UserError, match="belongs to another data set"):  # its name is still in the index
        require_dataset(store, renamed(photos, "small"))
    (store.root / "index.json").write_text("{")
    require_dataset(store, manifest(tmp_path, said="edited"))  # the job itself reports the corrupt index


PHOTOS = [Photo(f"p{n}", f"p{n}.png", "train", (f"caption {n}",), f"{n + 100}-1") for n in range(6)]


def changed(captions: tuple[str, ...] | None, bytes_more: int = 0) -> list[Photo]:
    """Returns PHOTOS with these captions, None for their own, and other sizes and times of their files."""
    return [
        replace(
            photo,
            captions=photo.captions if captions is None else captions,
            version_token=f"{n + 100 + bytes_more}-{n}",
        )
        for n, photo in enumerate(PHOTOS)
    ]


OTHERS = [Photo(f"q{n}", f"q{n}.png", "train", ("x",), "7-7") for n in range(50)]
MOVED = {
    "moved": (PHOTOS, True),
    "moved and edited": (changed(("new",))[:2] + PHOTOS[2:], True),
    "moved and resized": (changed(None, 1), True),
    "moved and extended": (PHOTOS + OTHERS, True),
    "moved and cut": (PHOTOS[:2] + OTHERS[:2], True),
    "one photo of the same name": (PHOTOS[:1] + OTHERS, False),
    "the same names with other captions": (changed(("another",)), False),
}
UNCAPTIONED = {
    "moved": (changed(()), True),
    "the same names of other files": (changed((), 1), False),
    "the same names in a bucket": ([replace(photo, version_token="etag") for photo in changed(())], True),
}


@pytest.mark.parametrize("case", MOVED)
def test_photos_elsewhere_are_compared(case: str, tmp_path: Path):
    """A file name such as IMG_0001.jpg or 1.jpg is not enough."""
    check_moved(tmp_path, PHOTOS, *MOVED[case])


@pytest.mark.parametrize("case", UNCAPTIONED)
def test_photos_without_captions_are_compared_by_size(case: str, tmp_path: Path):
    check_moved(tmp_path, changed(()), *UNCAPTIONED[case])


def check_moved(folder: Path, photos: list[Photo], moved: list[Photo], is_accepted: bool) -> None:
    """Checks whether photos elsewhere are those of a feature set. Below the same root they are."""
    store = write_set(folder, Manifest.build("tiny", str(folder / "photos"), photos)).store
    elsewhere = Manifest.build("tiny", "/elsewhere/photos", moved)
    if is_accepted:
        require_dataset(store, elsewhere)
    else:
        with pytest.raises(UserError, match="belongs to another data set, 'tiny' with other photos"):
            require_dataset(store, elsewhere)
    require_dataset(store, Manifest.build("tiny", str(folder / "photos"), moved))


def test_captions_are_not_replaced_by_none(tmp_path: Path):
    """As by an import of the same TSV without its data set."""
    store = write_set(tmp_path, manifest(tmp_path)).store
    without = [replace(photo, captions=()) for photo in manifest(tmp_path).photos()]
    with pytest.raises(UserError, match=r"^.* has captions, and data set 'tiny', which would replace them, has none"):
        require_dataset(store, Manifest.build("tiny", str(tmp_path / "photos"), without))


def test_uris_are_the_same_photos_below_any_root(tmp_path: Path):
    photo = Photo("p1", "http://example.org/1.png", "train", ("x",))
    store = write_set(tmp_path, Manifest.build("tiny", str(tmp_path), [photo])).store
    others = [replace(photo, key=f"p{n}", source=f"http://example.org/{n}.png") for n in range(2, 9)]
    require_dataset(store, Manifest.build("tiny", "/elsewhere", [replace(photo, captions=("edited",)), *others]))
    with pytest.raises(UserError, match="belongs to another data set"):
        require_dataset(store, Manifest.build("tiny", "/elsewhere", others))
