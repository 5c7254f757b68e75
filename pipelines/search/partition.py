"""Partitions of a search index: what a receipt holds. A partition is complete when its receipt exists."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.canonical_json import canonical_json, count, digest, load_object, require_fields, typed
from infra.storage.base import Store
from pipelines.features.npy import HEADER_BYTES
from pipelines.search.layout import FILES, FORMAT, PARTITION_NAME, partition_receipt_name
from pipelines.search.vector_rows import VectorType, columns


@dataclass(frozen=True)
class StoredFile:
    """Size in bytes and sha256 of an object."""

    size: int
    sha256: str

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "StoredFile":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        return cls(count(document["size"], "size"), digest(document["sha256"], "sha256"))


@dataclass(frozen=True)
class Partition:
    """A complete partition: the content of its receipt."""

    name: str
    dataset: str
    items: int
    """Photos or captions, N."""
    vectors: int
    """Vectors of all items, V."""
    boxes: int
    """Boxes of all items, B."""
    width: int
    """Width D of a vector."""
    shards: tuple[str, ...]
    """Shards of the feature set that it encodes."""
    files: Mapping[str, StoredFile]
    """FILES."""

    @property
    def gallery(self) -> str:
        """The gallery that the partition belongs to, taken from its name."""
        return self.name.split("-")[0]

    @property
    def split(self) -> str:
        """The split of its photos, taken from its name."""
        return self.name.split("-")[1]

    @property
    def vector_type(self) -> VectorType:
        """How its vectors are stored, taken from the size of their file."""
        size = HEADER_BYTES + 2 * self.vectors * self.width
        return "float16" if self.files["vectors"].size == size else "int8"

    @property
    def columns(self) -> int:
        """Columns of the stored matrix of vectors."""
        return columns(self.vector_type, self.width)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def to_json(self) -> bytes:
        """Returns canonical JSON of the receipt."""
        return canonical_json({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> "Partition":
        """Parses what `to_json` wrote. Raises ValueError with the reason for anything else."""
        document = load_object(data)
        if document.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        try:
            return cls.from_document(document)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or has the wrong type ({error})") from error

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Partition":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        if not PARTITION_NAME.fullmatch(document["name"]):  # it becomes a file name
            raise ValueError("a partition's name is malformed")
        files = typed(document, "files", dict)
        if set(files) != set(FILES):
            raise ValueError(f"`files` is not {', '.join(FILES)}")
        return cls(
            document["name"],
            typed(document, "dataset", str),
            count(document["items"], "items"),
            count(document["vectors"], "vectors"),
            count(document["boxes"], "boxes"),
            count(document["width"], "width"),
            tuple(str(shard) for shard in typed(document, "shards", list)),
            {name: StoredFile.from_document(files[name]) for name in FILES},
        )


def read_partition_receipt(store: Store, partition: str) -> Partition | None:
    """Returns a partition by its receipt, or None if that is missing or corrupt."""
    try:
        found = Partition.from_json(store.read(partition_receipt_name(partition)))
    except (FileNotFoundError, ValueError):
        return None
    return found if found.name == partition else None
