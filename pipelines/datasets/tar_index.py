"""The index of a webdataset tar: where its images are, and their captions. One pass over the headers builds it.

A sample is the members that share a directory and the part of the file name before the first dot (webdataset's key).
Captions are `caption` or `captions` of the sample's `.json`, else the lines of the first of `_CAPTIONS` that has some;
they belong to all images of the sample. A `.json` or `.txt` with further dots in its name belongs to the image of that
name if it exists (`a.b.jpg`, `a.b.txt`). Other members, and files whose names start with a dot, are not read.
"""

import io
import json
import posixpath
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.names import IMAGE_ENDINGS
from pipelines.datasets.ranged_file import RangedFile
from shan_model.vocabulary import has_word

_BUFFER = 2**17
"""Bytes of a request. Images that are larger are skipped; to request more of them costs more than to read them."""
_MAX_TEXT = 2**24
"""Largest accepted `.txt` or `.json` in bytes."""
_PADDING = 2**16
"""Bytes behind the end that are looked at: tar pads with zeros, to 10 KiB by default."""
_CAPTIONS = ("json", "txt", "caption.txt", "captions.txt", "caption")
"""Members of a sample with captions, in the order in which they are looked for: those of img2dataset, and the fields
`caption.txt`, `captions.txt` and `caption` of webdataset's writer."""
_TEXTS = ("json", "txt", "caption")
"""Endings of members that may have captions."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class TarImage(NamedTuple):
    """An image of a tar, with the bytes of its headers and its content."""

    member: str
    start: int
    end: int
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TarIndex:
    """The images of a tar in order, and what is wrong with it."""

    images: list[TarImage] = field(default_factory=list)
    is_truncated: bool = False
    """Whether it ends within a member, or without the blocks that end a tar."""
    orphans: tuple[str, ...] = ()
    """Members that may have captions, but have the name of no image."""


def index_tar(store: Store, name: str) -> TarIndex:
    """Returns the index of a tar.

    Raises UserError naming the tar and a member if it is not an uncompressed tar, has a member twice, or has captions
    that cannot be read. Raises FileNotFoundError if it does not exist.
    """
    reader = _TarReader(f"{store.uri}/{name}", io.BufferedReader(RangedFile(store, name), _BUFFER))
    return reader.index()


def sample_key(member: str) -> tuple[str, str]:
    """Returns webdataset's key of a member and the rest of its name, in lower case."""
    folder, name = posixpath.split(member)
    stem, _, rest = name.partition(".")
    return posixpath.join(folder, stem), rest.lower()


def member_name(entry: tarfile.TarInfo) -> str:
    """Returns the name of a member as a relative path."""
    return posixpath.normpath(entry.name).lstrip("/")


class _Text(NamedTuple):
    """A member that may have captions."""

    member: str
    entry: tarfile.TarInfo
    captions: tuple[str, ...] | None
    """None if it is read only for an image of its name: others may be no captions, such as `000.metadata.json`."""


class _TarReader:
    """Reads one tar."""

    def __init__(self, uri: str, file: io.BufferedReader) -> None:
        self._uri, self._file = uri, file
        self._images: dict[str, TarImage] = {}
        self._texts: dict[str, dict[str, _Text]] = defaultdict(dict)
        """By name without ending, and by ending."""

    def index(self) -> TarIndex:
        is_complete = self._read_members()
        stems = {posixpath.splitext(member)[0] for member in self._images}
        keys = {sample_key(member)[0] for member in self._images}
        images = [image._replace(captions=self._captions(member, stems)) for member, image in self._images.items()]
        texts = (text for texts in self._texts.values() for text in texts.values() if text.captions != ())
        orphans = tuple(text.member for text in texts if not _has_image(text.member, stems, keys))
        return TarIndex(images, not is_complete, orphans)

    def _captions(self, member: str, stems: set[str]) -> tuple[str, ...]:
        """Returns the captions beside an image, or else those of its sample. `stems`: names without ending."""
        stem, key = posixpath.splitext(member)[0], sample_key(member)[0]
        names = [(stem, "json"), (stem, "txt")]
        for kind in _CAPTIONS:
            name, ending = _split_ending(f"{key}.{kind}")
            if name == key or name not in stems:  # else it belongs to another image
                names.append((name, ending))
        return next(filter(None, (self._captions_in(*name) for name in names)), ())

    def _captions_in(self, stem: str, ending: str) -> tuple[str, ...]:
        text = self._texts.get(stem, {}).get(ending)
        if text is None or text.captions is not None:
            return text.captions or () if text else ()
        data = self._text(text.member, text.entry)
        return self._parsed(text.member, ending, data) if data else ()

    def _read_members(self) -> bool:
        """Reads all headers and the captions. Returns whether the tar is complete."""
        if not self._file.peek(1):
            return False
        end = 0
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as opened:
                for entry in opened:
                    if opened.offset <= end:  # a negative size
                        return False
                    end = opened.offset
                    opened.members = []  # type: ignore[attr-defined] # else it keeps all of them
                    if not self._read_member(entry):
                        return False
                self._file.seek(opened.offset)
                is_complete = self._file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
                if is_complete and self._file.read(_PADDING).strip(b"\0"):
                    raise UserError(f"{self._uri}: members follow its end, as in joined tars; give the tars one by one")
                return is_complete
        except (tarfile.TarError, ValueError, OverflowError) as error:
            if not end:
                raise UserError(f"{self._uri}: not an uncompressed tar ({error}); pack it again") from error
            return False

    def _read_member(self, entry: tarfile.TarInfo) -> bool:
        """Records a member. Returns False if the tar ends within it."""
        name = member_name(entry)
        if entry.isdir() or posixpath.basename(name).startswith("."):
            return True
        _, kind = sample_key(name)
        is_image = f".{kind}".endswith(IMAGE_ENDINGS)
        if kind.endswith(_COMPRESSED) and f".{kind}".rpartition(".")[0].endswith((*IMAGE_ENDINGS, ".txt", ".json")):
            raise UserError(f"{self._uri}: {name} is compressed; write the tar again with uncompressed members")
        stem, ending = _split_ending(name)
        if not is_image and ending not in _TEXTS:
            return True
        if name in self._images or ending in self._texts.get(stem, {}):
            raise UserError(f"{self._uri}: {name} occurs twice in it; write the tar again with every member once")
        if is_image:
            self._images[name] = TarImage(name, entry.offset, entry.offset_data + entry.size)
            return True
        captions = None
        if kind in _CAPTIONS:
            text = self._text(name, entry)
            if text is None:
                return False
            captions = self._parsed(name, ending, text)
        self._texts[stem][ending] = _Text(name, entry, captions)
        return True

    def _text(self, name: str, entry: tarfile.TarInfo) -> bytes | None:
        """Returns the content of a member; None if the tar ends within it."""
        if not is_plain(entry):
            raise UserError(f"{self._uri}: {name} is a link or a sparse file; write the tar again with plain files")
        if entry.size > _MAX_TEXT:
            raise UserError(
                f"{self._uri}: {name} has {entry.size} bytes, captions at most {_MAX_TEXT >> 20} MiB; remove it"
            )
        self._file.seek(entry.offset_data)
        data = self._file.read(entry.size)
        return data if len(data) == entry.size else None

    def _parsed(self, name: str, kind: str, data: bytes) -> tuple[str, ...]:
        """Returns the captions in a text; null, or one that has no word, is none: a tar cannot be edited in place."""
        try:
            text = data.decode("utf-8-sig")
            found = _json_captions(_document(text)) if kind == "json" else text.split("\n")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self._uri}: {name} is not valid {kind} ({error}); correct it") from error
        return tuple(filter(has_word, (caption.strip() for caption in found)))


def _split_ending(member: str) -> tuple[str, str]:
    """Returns the name of a member without its ending, and the ending in lower case, without its dot."""
    stem, ending = posixpath.splitext(member)
    return stem, ending[1:].lower()


def _has_image(text: str, stems: set[str], keys: set[str]) -> bool:
    """Returns whether a text has the name of an image, or is a caption of an image's sample."""
    stem, ending = _split_ending(text)
    key, kind = sample_key(text)
    return (stem in stems and ending in ("json", "txt")) or (kind in _CAPTIONS and key in keys)


def is_plain(entry: tarfile.TarInfo) -> bool:
    """Returns whether a member is stored in one piece: neither a link nor sparse."""
    return entry.isreg() and not entry.issparse()


def _document(text: str) -> Any:
    """Returns a JSON document. Raises ValueError if an object has captions twice: Python would keep the last ones."""

    def checked(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in fields]
        twice = next((name for name in ("caption", "captions") if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"an object has `{twice}` twice")
        return dict(fields)

    return json.loads(text, object_pairs_hook=checked)


def _json_captions(document: Any) -> list[str]:
    """Returns the captions of a sample's JSON. Raises ValueError if they are not text, or in a list of another form."""
    if isinstance(document, list) and any(
        isinstance(item, str) or (isinstance(item, dict) and {"caption", "captions"} & item.keys()) for item in document
    ):
        raise ValueError('it is a list; write {"captions": [...]}')
    fields = document if isinstance(document, dict) else {}
    found = fields.get("captions") or fields.get("caption") or []
    captions = [found] if isinstance(found, str) else found
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("its captions are not text")
    return captions
