"""The index of a feature set: typed fields, strict parsing, canonical JSON.

`index.json` is written last and replaced by every extraction that extends the feature set. It holds the lineage
(manifest digest, detector fingerprint), the detector's description and every shard with its checksum and counts. Its
feature-set digest covers all of that but locations (`index_digest`), and runs and registered models refer to it. Every
index also stays as `snapshot-<12 hex of its digest>.json`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from infra.canonical_json import canonical_json, count, load_object, require_fields, typed
from infra.errors import CorruptDataError
from infra.storage.base import Store
from pipelines.features.layout import FORMAT, INDEX, SHARD_NAME
from pipelines.features.receipt import Receipt


class InvalidIndexError(CorruptDataError):
    """An object that should be an index cannot be parsed as one. `reason` is the cause, without the URI."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri} is not a valid feature-set index ({reason}); check the URI, or extract again")
        self.reason = reason


@dataclass(frozen=True)
class DetectorDescription:
    """What readers of a feature set need to know about its detector."""

    name: str
    settings: Mapping[str, Any]
    """`extract.detector_settings`, for information. Not part of the digest: they may contain paths."""
    feature_dim: int
    """Feature width F."""
    region_range: tuple[int, int]
    """Minimum and maximum number of regions per photo."""
    class_names: Mapping[int, str]
    """Name of each id in `classes`; empty if the source does not name them."""
    attribute_names: Mapping[int, str]
    """Name of each id in `attributes`; empty if the detector predicts none."""

    def to_document(self) -> dict[str, Any]:
        """Returns the plain JSON value."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "feature_dim": self.feature_dim,
            "region_range": list(self.region_range),
            "class_names": {str(id_): name for id_, name in self.class_names.items()},
            "attribute_names": {str(id_): name for id_, name in self.attribute_names.items()},
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "DetectorDescription":
        """Parses the value of `to_document`. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        min_regions, max_regions = document["region_range"]
        return cls(
            typed(document, "name", str),
            typed(document, "settings", dict),
            count(document["feature_dim"], "detector.feature_dim"),
            (count(min_regions, "detector.region_range"), count(max_regions, "detector.region_range")),
            _names(document, "class_names"),
            _names(document, "attribute_names"),
        )


@dataclass(frozen=True)
class IndexedShard:
    """One shard as the index describes it."""

    name: str
    sha256: str
    """Digest of the tar."""
    size: int
    """Bytes of the tar."""
    written: int
    """Photos in the shard."""
    rejected: int
    """Planned photos that are not in the shard."""
    receipt_digest: str
    """`Receipt.digest`."""

    @property
    def split(self) -> str:
        """The split that the shard belongs to, taken from its name."""
        return self.name.split("-")[1]

    @property
    def number(self) -> int:
        """The shard's number within its split, taken from its name."""
        return int(self.name.split("-")[2])

    @classmethod
    def of(cls, receipt: Receipt) -> "IndexedShard":
        """Returns the entry that belongs to a receipt."""
        return cls(
            receipt.shard, receipt.sha256, receipt.size, len(receipt.written), len(receipt.rejected), receipt.digest
        )

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "IndexedShard":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        if not SHARD_NAME.fullmatch(document["name"]):  # it becomes a file name
            raise ValueError("a shard's name is malformed")
        return cls(
            document["name"],
            typed(document, "sha256", str),
            count(document["size"], "shards.size"),
            count(document["written"], "shards.written"),
            count(document["rejected"], "shards.rejected"),
            typed(document, "receipt_digest", str),
        )


@dataclass(frozen=True)
class FeatureSetIndex:
    """The content of `index.json` and of a snapshot."""

    dataset: str
    """Name of the data set."""
    manifest: str
    """Digest of the manifest."""
    fingerprint: str
    """Fingerprint of the detector."""
    detector: DetectorDescription
    shards: tuple[IndexedShard, ...]
    """By split and number."""
    photo_root: str
    """Folder or URI of the photos, for reports. Not part of the digest: photos may be moved."""
    feature_set: str = ""
    """The feature-set digest as stored; `compute_digest` recomputes it."""

    @classmethod
    def build(
        cls, dataset: str, manifest: str, fingerprint: str, detector: DetectorDescription,
        shards: Iterable[IndexedShard],
        photo_root: str,
    ) -> "FeatureSetIndex":  # fmt: skip
        """Returns an index over shards, with its digest."""
        index = cls(dataset, manifest, fingerprint, detector, tuple(shards), photo_root)
        return replace(index, feature_set=index.compute_digest())

    def compute_digest(self) -> str:
        """Returns the feature-set digest of the current fields."""
        return index_digest(self._document())

    @property
    def photos_written(self) -> int:
        """Photos in all shards."""
        return sum(shard.written for shard in self.shards)

    @property
    def photos_rejected(self) -> int:
        """Planned photos that are in no shard."""
        return sum(shard.rejected for shard in self.shards)

    def to_json(self) -> bytes:
        """Returns canonical JSON: equal indexes have equal bytes."""
        return canonical_json(self._document())

    @classmethod
    def from_json(cls, data: bytes) -> "FeatureSetIndex":
        """Parses what `to_json` wrote. Raises ValueError with the reason for anything else."""
        document = load_object(data)
        if document.get("format") != FORMAT:
            raise ValueError(f"its format is {str(document.get('format'))[:40]!r}, this release reads {FORMAT!r}")
        try:
            index = cls._from_document(document)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"a field is missing or has the wrong type ({str(error)[:200]})") from error
        index.to_json()  # raises ValueError for text that cannot be encoded
        return index

    def _document(self) -> dict[str, Any]:
        return {
            **vars(self),
            "format": FORMAT,
            "detector": self.detector.to_document(),
            "shards": [dict(vars(shard)) for shard in self.shards],
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "FeatureSetIndex":
        require_fields({name: value for name, value in document.items() if name != "format"}, cls)
        return cls(
            typed(document, "dataset", str),
            typed(document, "manifest", str),
            typed(document, "fingerprint", str),
            DetectorDescription.from_document(typed(document, "detector", dict)),
            tuple(IndexedShard.from_document(shard) for shard in typed(document, "shards", list)),
            typed(document, "photo_root", str),
            typed(document, "feature_set", str),
        )


def index_digest(document: Mapping[str, Any]) -> str:
    """Returns the feature-set digest of an index's JSON value: the sha256 of its content without any location.

    Left out are `feature_set`, `photo_root` and `detector.settings`. Settings may be paths, and those that change
    numbers are in the fingerprint.
    """
    content = {name: value for name, value in document.items() if name not in ("feature_set", "photo_root")}
    content["detector"] = {name: value for name, value in document["detector"].items() if name != "settings"}
    return sha256(canonical_json(content)).hexdigest()


def read_index(store: Store, name: str = INDEX) -> FeatureSetIndex:
    """Returns an index of a store. Raises FileNotFoundError or InvalidIndexError."""
    try:
        return FeatureSetIndex.from_json(store.read(name))
    except ValueError as error:
        raise InvalidIndexError(f"{store.uri}/{name}", str(error)) from error


def _names(document: Mapping[str, Any], field: str) -> dict[int, str]:
    names = {int(id_): name for id_, name in typed(document, field, dict).items()}
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"field '{field}' has a name that is not text")
    return names
