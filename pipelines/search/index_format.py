"""The document of a search index: model, feature sets, galleries and candidate searches, with strict parsing.

`index.json` is written last. Its digest covers everything but locations; every index also stays as a snapshot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from infra.canonical_json import canonical_json, count, digest, load_object, require_fields, typed
from infra.errors import CorruptDataError, UserError
from infra.storage.base import Store
from pipelines.features.layout import INDEX, nothing_at, resolve_uri
from pipelines.search.layout import FORMAT, GALLERIES, centroids_name, file_name, lists_name, partition_receipt_name
from pipelines.search.partition import Partition, StoredFile


class InvalidSearchIndexError(CorruptDataError):
    """An object that should be a search index cannot be parsed as one. `reason` is the cause, without the URI."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri} is not a valid search index ({reason}); check the URI, or build the index again")
        self.reason = reason


@dataclass(frozen=True)
class CandidateSearch:
    """How candidates of a gallery are found, with its parameters."""

    kind: Literal["flat", "ivf"] = "flat"
    probes: int = 0
    """Lists that a query is compared with."""
    identity: str = ""
    """Hash of what the centroids of `ivf` follow from: the partitions and the number of lists."""
    centroids: StoredFile | None = None
    lists: Mapping[str, StoredFile] = field(default_factory=dict)
    """Lists of the items of every partition, by its name."""

    def objects(self, gallery: str) -> dict[str, StoredFile]:
        """Returns the objects of a gallery's candidate search, by name."""
        found = {lists_name(partition, self.identity): stored for partition, stored in self.lists.items()}
        if self.centroids is not None:
            found[centroids_name(gallery, self.identity)] = self.centroids
        return found

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "CandidateSearch":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        if document["kind"] not in ("flat", "ivf"):
            raise ValueError("the kind of a candidate search is unknown")
        centroids, lists = document["centroids"], typed(document, "lists", dict)
        if (centroids is None) != (document["kind"] == "flat"):
            raise ValueError("the candidate search has no centroids")
        if centroids is not None:
            digest(document["identity"], "identity")
        return cls(
            document["kind"],
            count(document["probes"], "probes"),
            typed(document, "identity", str),
            None if centroids is None else StoredFile.from_document(centroids),
            {name: StoredFile.from_document(file) for name, file in lists.items()},
        )


@dataclass(frozen=True)
class Gallery:
    """The partitions of photos or of captions. An item's row counts from the first item of the first partition."""

    partitions: tuple[Partition, ...]
    first_stage: CandidateSearch = CandidateSearch()
    """The candidate search, under the name that it has in `index.json`."""

    @property
    def items(self) -> int:
        """Photos or captions."""
        return sum(partition.items for partition in self.partitions)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Gallery":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        partitions = tuple(Partition.from_document(found) for found in typed(document, "partitions", list))
        candidates = CandidateSearch.from_document(typed(document, "first_stage", dict))
        if candidates.kind == "ivf" and set(candidates.lists) != {partition.name for partition in partitions}:
            raise ValueError("the lists of the candidate search are not those of the partitions")
        return cls(partitions, candidates)


@dataclass(frozen=True)
class IndexedModel:
    """The model that encoded an index."""

    uri: str
    """`models:/<name>/<version>`, or a checkpoint folder. Not part of the digest: a model may be copied."""
    digest: str
    """`pipelines.models.load.LoadedModel.digest`."""
    fingerprint: str
    """Fingerprint of the detector that it was made for."""
    pools_means: bool = True
    """Whether pooled vectors are means. A document has this field only if they are not."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "IndexedModel":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        document = {"pools_means": True} | document
        require_fields(document, cls)
        uri, fingerprint = typed(document, "uri", str), typed(document, "fingerprint", str)
        return cls(uri, digest(document["digest"], "digest"), fingerprint, typed(document, "pools_means", bool))


@dataclass(frozen=True)
class IndexedFeatures:
    """A feature set whose photos are in an index."""

    uri: str
    """With the digest of the feature set. Not part of the index's digest: a feature set may be moved."""
    dataset: str
    feature_set: str
    """Digest of the feature set."""
    photo_root: str
    """Folder or URI of the photos. Not part of the digest, either."""

    @property
    def location(self) -> str:
        """URI of the feature set, without the digest."""
        return self.uri.rpartition("@")[0]

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "IndexedFeatures":
        """Parses the fields as a JSON object. Raises ValueError, LookupError or TypeError for anything else."""
        require_fields(document, cls)
        texts = [typed(document, name, str) for name in ("uri", "dataset", "feature_set", "photo_root")]
        return cls(*texts)


@dataclass(frozen=True)
class IndexDocument:
    """The content of `index.json` and of a snapshot."""

    model: IndexedModel
    features: tuple[IndexedFeatures, ...]
    galleries: Mapping[str, Gallery]
    """Galleries that have items, by name."""
    index: str = ""
    """The digest as stored; `compute_digest` recomputes it."""

    @classmethod
    def build(
        cls, model: IndexedModel, features: Iterable[IndexedFeatures], galleries: Mapping[str, Gallery]
    ) -> "IndexDocument":
        """Returns the document with its digest."""
        document = cls(model, tuple(features), galleries)
        return replace(document, index=document.compute_digest())

    def compute_digest(self) -> str:
        """Returns the sha256 of the content without locations."""
        document = self._document()
        del document["index"], document["model"]["uri"]
        for features in document["features"]:
            del features["uri"], features["photo_root"]
        return sha256(canonical_json(document)).hexdigest()

    def to_json(self) -> bytes:
        """Returns canonical JSON: equal indexes have equal bytes."""
        return canonical_json(self._document())

    @classmethod
    def from_json(cls, data: bytes) -> "IndexDocument":
        """Parses what `to_json` wrote. Raises ValueError with the reason for anything else."""
        document = load_object(data)
        if document.get("format") != FORMAT:
            raise ValueError(f"its format is {str(document.get('format'))[:40]!r}, this release reads {FORMAT!r}")
        try:
            found = cls._from_document(document)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or has the wrong type ({str(error)[:200]})") from error
        if found.compute_digest() != found.index:
            raise ValueError("its content does not have the digest that it states")
        return found

    def objects(self) -> dict[str, StoredFile]:
        """Returns every object that the index refers to and whose checksum it has, by name."""
        found: dict[str, StoredFile] = {}
        for name, gallery in self.galleries.items():
            for partition in gallery.partitions:
                found |= {file_name(partition.name, file): stored for file, stored in partition.files.items()}
            found |= gallery.first_stage.objects(name)
        return found

    def receipts(self) -> dict[str, Partition]:
        """Returns the partitions by the object name of their receipts."""
        partitions = [partition for gallery in self.galleries.values() for partition in gallery.partitions]
        return {partition_receipt_name(partition.name): partition for partition in partitions}

    def _document(self) -> dict[str, Any]:
        document = {"format": FORMAT, **asdict(self)}
        if self.model.pools_means:
            del document["model"]["pools_means"]
        return document

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "IndexDocument":
        require_fields({name: value for name, value in document.items() if name != "format"}, cls)
        galleries = typed(document, "galleries", dict)
        if not set(galleries) <= set(GALLERIES):
            raise ValueError("a gallery is unknown")
        return cls(
            IndexedModel.from_document(typed(document, "model", dict)),
            tuple(IndexedFeatures.from_document(features) for features in typed(document, "features", list)),
            {name: Gallery.from_document(galleries[name]) for name in GALLERIES if name in galleries},
            typed(document, "index", str),
        )


def read_index_document(uri: str) -> tuple[Store, IndexDocument]:
    """Returns the store and the document of an index; `<uri>@<12 hex>` is the snapshot with that digest.

    Raises UserError unless a valid index, of a finished build, exists.
    """
    store, name = resolve_uri(uri)
    try:
        data = store.read(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(nothing_at(uri, "no finished search index here", "index")) from error
    return store, parse_document(data, f"{store.uri}/{name}")


def find_index_document(store: Store) -> IndexDocument | None:
    """Returns the document of the current index in a store; None unless it exists and is valid."""
    try:
        return parse_document(store.read(INDEX), f"{store.uri}/{INDEX}")
    except (FileNotFoundError, InvalidSearchIndexError):
        return None


def is_search_index(uri: str) -> bool:
    """Returns whether a URI has a search index, valid or not, rather than a feature set or nothing."""
    store, name = resolve_uri(uri)
    try:
        return f'"format":"{FORMAT.partition("/")[0]}/'.encode() in store.read(name)
    except (FileNotFoundError, NotADirectoryError):
        return False


def parse_document(data: bytes, uri: str) -> IndexDocument:
    """Returns the document in these bytes. Raises InvalidSearchIndexError."""
    try:
        return IndexDocument.from_json(data)
    except ValueError as error:
        raise InvalidSearchIndexError(uri, str(error)) from error
