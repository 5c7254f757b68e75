"""The index of a webdataset tar: where its images are, and their captions. One pass over the headers builds it.

A sample is the members that share a directory and the part of the file name before the first dot (webdataset's key).
Captions are `caption` or `captions` of the sample's `.json`, else the lines of its `.txt`; they belong to all images of
the sample. Those with further dots in their names belong to the image of that name (`a.b.jpg`, `a.b.txt`). Other
members, and files whose names start with a dot, are not read.
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
    """Members with captions of no image."""


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


class _TarReader:
    """Reads one tar."""

    def __init__(self, uri: str, file: io.BufferedReader) -> None:
        self._uri, self._file = uri, file
        self._images: dict[str, TarImage] = {}
        self._texts: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = defaultdict(dict)
        self._dotted: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
        """`.txt` and `.json` of names with further dots, by the name without its ending."""

    def index(self) -> TarIndex:
        is_complete = self._read_members()
        with_image = {sample_key(member)[0] for member in self._images}
        orphans = tuple(
            name
            for key, texts in self._texts.items()
            if key not in with_image
            for name, captions in texts.values()
            if captions
        )
        images = [image._replace(captions=self._captions(member)) for member, image in self._images.items()]
        return TarIndex(images, not is_complete, orphans)

    def _captions(self, member: str) -> tuple[str, ...]:
        texts = self._texts.get(sample_key(member)[0], {})
        of_sample = next((texts[kind][1] for kind in ("json", "txt") if kind in texts and texts[kind][1]), ())
        return self._own_captions(posixpath.splitext(member)[0]) or of_sample

    def _own_captions(self, stem: str) -> tuple[str, ...]:
        """Returns the captions beside an image whose name has further dots."""
        for kind, entry in sorted(self._dotted.get(stem, {}).items()):  # .json before .txt
            text = self._text(f"{stem}.{kind}", entry)
            captions = self._parsed(f"{stem}.{kind}", kind, text) if text else ()
            if captions:
                return captions
        return ()

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
        key, kind = sample_key(name)
        is_image = f".{kind}".endswith(IMAGE_ENDINGS)
        if kind.endswith(_COMPRESSED) and f".{kind}".rpartition(".")[0].endswith((*IMAGE_ENDINGS, ".txt", ".json")):
            raise UserError(f"{self._uri}: {name} is compressed; write the tar again with uncompressed members")
        if not is_image and kind not in ("txt", "json"):
            stem, _, ending = name.rpartition(".")
            if ending.lower() in ("txt", "json"):
                self._dotted[stem][ending.lower()] = entry
            return True
        if name in self._images or kind in self._texts.get(key, {}):
            raise UserError(f"{self._uri}: {name} occurs twice in it; write the tar again with every member once")
        if is_image:
            self._images[name] = TarImage(name, entry.offset, entry.offset_data + entry.size)
            return True
        text = self._text(name, entry)
        if text is not None:
            self._texts[key][kind] = (name, self._parsed(name, kind, text))
        return text is not None

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
            found = text.split("\n") if kind == "txt" else _json_captions(_document(text))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self._uri}: {name} is not valid {kind} ({error}); correct it") from error
        return tuple(filter(has_word, (caption.strip() for caption in found)))


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
