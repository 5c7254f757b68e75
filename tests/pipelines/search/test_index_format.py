"""The stored format: documents and receipts survive a round trip, and nothing else is read as one."""

import json

import pytest

from infra.errors import UserError
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import CandidateSearch, IndexDocument, parse_document
from pipelines.search.layout import KINDS
from pipelines.search.partition import Partition, StoredFile, read_partition_receipt


def test_documents_and_receipts_survive_a_round_trip(built: IndexBuild):
    assert IndexDocument.from_json(built.document.to_json()) == built.document
    for partition in built.document.receipts().values():
        assert Partition.from_json(partition.to_json()) == partition
        assert read_partition_receipt(built.store, partition.name) == partition


def test_every_object_has_a_kind(built: IndexBuild):
    names = [name for name in built.store.objects() if name != "index.json"]
    assert all(any(pattern.fullmatch(name) for pattern in KINDS.values()) for name in names)
    assert {*built.document.objects(), *built.document.receipts()} < set(names)


def test_the_digest_leaves_out_locations(built: IndexBuild):
    document = json.loads(built.document.to_json())
    document["model"]["uri"] = "models:/moved/1"
    document["features"][0] |= {"uri": "s3://elsewhere", "photo_root": "/mnt/photos"}
    assert parse_document(json.dumps(document).encode(), "x").index == built.document.index


def test_lists_belong_to_the_partitions_and_an_identity(built: IndexBuild):
    gallery = built.document.galleries["photos"]
    file = StoredFile(1, "0" * 64)
    candidates = CandidateSearch("ivf", 2, "1" * 64, file, {partition.name: file for partition in gallery.partitions})
    document = json.loads(built.document.to_json())
    changed = IndexDocument.build(
        built.document.model, built.document.features, {"photos": type(gallery)(gallery.partitions, candidates)}
    )
    assert IndexDocument.from_json(changed.to_json()) == changed
    document = json.loads(changed.to_json())
    document["galleries"]["photos"]["first_stage"]["lists"].popitem()
    with pytest.raises(UserError, match="the lists of the candidate search are not those of the partitions"):
        parse_document(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(format="shan-index/9"), "its format is 'shan-index/9', this release reads 'shan-index/1'"),
        (lambda d: d.pop("model"), "field 'model' is missing"),
        (lambda d: d.update(more=1), "field 'more' is unknown"),
        (lambda d: d["model"].update(digest="x"), "field 'digest' is not a sha256"),
        (lambda d: d["model"].update(uri=3), "field 'uri' is int, not str"),
        (lambda d: d.update(features={}), "field 'features' is dict, not list"),
        (lambda d: d["galleries"].update(videos={}), "a gallery is unknown"),
        (lambda d: d["galleries"]["photos"]["partitions"][0].update(name="../x"), "a partition's name is malformed"),
        (lambda d: d["galleries"]["photos"]["partitions"][0].update(items=-1), "field 'items' is not a count"),
        (lambda d: d["galleries"]["photos"]["partitions"][0]["files"].pop("boxes"), "`files` is not vectors, pooled"),
        (
            lambda d: d["galleries"]["photos"]["first_stage"].update(kind="tree"),
            "the kind of a candidate search is unknown",
        ),
        (lambda d: d["galleries"]["photos"]["first_stage"].update(kind="ivf"), "the candidate search has no centroids"),
        (lambda d: d["galleries"]["photos"].update(partitions=[7]), "a field is missing or has the wrong type"),
        (lambda d: d.update(index="0"), "its content does not have the digest that it states"),
    ],
)
def test_a_document_with_another_content_is_refused(built: IndexBuild, change, reason: str):
    document = json.loads(built.document.to_json())
    change(document)
    with pytest.raises(UserError, match=reason) as caught:
        parse_document(json.dumps(document).encode(), "s3://b/x/index.json")
    assert str(caught.value).startswith("s3://b/x/index.json is not a valid search index (")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10**5])
def test_other_bytes_are_refused(data: bytes):
    with pytest.raises(UserError, match="is not a valid search index"):
        parse_document(data, "x")
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode|nested"):
        Partition.from_json(data)
