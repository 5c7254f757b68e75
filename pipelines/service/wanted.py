"""Which index the service should serve: that of the champion if it exists, else the one that it was given."""

import re
from dataclasses import dataclass

import infra.tracking
from infra.errors import UserError
from infra.registry import champion_version
from infra.source_tree import program
from infra.storage.base import Store
from infra.storage.open import open_store
from infra.tracking import TrackingConfig
from pipelines.features.layout import INDEX
from pipelines.search.data_sets import has_same_data_sets
from pipelines.search.index_format import IndexDocument, InvalidSearchIndexError, parse_document, read_index_document
from pipelines.service.generation import Generation

_VERSION = re.compile(r"models:/([^/@]+)/(\d+)")


@dataclass(frozen=True)
class Wanted:
    """What to serve, and why it is not the champion's."""

    generation: Generation
    """With a problem, what to serve if no gallery is running."""
    champion: str = ""
    """URI of the champion's version; empty if the service does not follow one."""
    problem: str = ""
    """Why the champion is not served, with the fix."""


def wanted(uri: str, pin: int | None, tracking: TrackingConfig) -> Wanted:
    """Returns what a service of the index at `uri` should serve.

    That is the index of the version `pin`, else of the champion, of the same data sets and below the same root as
    `uri`. A snapshot (`uri@<12 hex>`) and the index of a checkpoint folder are served as they are. Raises UserError
    if `uri` is not a finished index, or if the pinned version has none.
    """
    if pin is not None and pin < 1:
        raise UserError(f"--pin is {pin}; it must be a version, and the first one is 1")
    store, document = read_index_document(uri)
    given = generation_of(store.uri, document)
    version = _VERSION.fullmatch(document.model.uri)
    if version is None:
        if pin is not None:
            raise UserError(
                f"--pin has no effect: {uri} is the index of {document.model.uri}, not of a version; omit it"
            )
        return Wanted(given)
    if pin is None and "@" in uri.rpartition("/")[2]:
        return Wanted(given)
    name = version[1]
    number = pin if pin is not None else champion_version(infra.tracking.require_store(tracking), name)
    if number is None:
        return Wanted(given)
    chosen = f"models:/{name}/{number}"
    found = given if document.model.uri == chosen else find_index(store, document, chosen)
    features = " ".join(features.location for features in document.features)
    root = store.uri.rpartition("/")[0]
    fix = f"build it with `{program('index')} --model {chosen} --features {features} --index.output {root}`"
    if pin is not None:
        if found is None:
            raise UserError(f"--pin {pin}: {chosen} has no index beside {store.uri} with the same photos; {fix}")
        return Wanted(found)
    if found is None:
        return Wanted(
            given, chosen, f"the champion {chosen} has no index beside {store.uri} with the same photos; {fix}"
        )
    return Wanted(found, chosen)


def generation_of(uri: str, document: IndexDocument) -> Generation:
    """Returns the generation of an index as its document records it."""
    return Generation(f"{uri}@{document.index[:12]}", document.model.uri)


def find_index(like_store: Store, like: IndexDocument, model: str) -> Generation | None:
    """Returns the index of a model beside another one, of the same data sets; None without a finished one.

    Of several, one with the same galleries and the same type of vectors is preferred. Raises UserError or OSError if
    none is found and one cannot be read, as during an outage: it may be the wanted one.
    """
    root = open_store(like_store.uri.rpartition("/")[0])
    unreadable: Exception | None = None
    others = list[Generation]()
    for folder in sorted(root.folders()):
        store = open_store(f"{root.uri}/{folder}")
        try:
            document = parse_document(store.read(INDEX), f"{store.uri}/{INDEX}")
            if document.model.uri == model and has_same_data_sets(like_store, like, store, document):
                found = generation_of(store.uri, document)
                if _kinds(document) == _kinds(like):
                    return found
                others.append(found)
        except (FileNotFoundError, InvalidSearchIndexError):  # not finished, or something else
            continue
        except (UserError, OSError) as error:
            unreadable = error
    if unreadable is not None:
        raise unreadable
    return others[0] if others else None


def _kinds(document: IndexDocument) -> dict[str, set[str]]:
    """Returns the types of the vectors of each gallery."""
    return {
        name: {partition.vector_type for partition in gallery.partitions}
        for name, gallery in document.galleries.items()
    }
