"""The stored format: documents survive a round trip, and nothing else is read as one."""

import json
from dataclasses import replace

import pytest

from infra.errors import UserError
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import CandidateSearch, IndexDocument, parse_document
from pipelines.search.partition import StoredFile, read_partition_receipt


def test_a_document_survives_a_round_trip(built: IndexBuild):
    assert IndexDocument.from_json(built.document.to_json()) == built.document
    for partition in built.document.receipts().values():
        assert read_partition_receipt(built.store, partition.name) == partition


def test_only_pooled_vectors_that_are_not_means_are_named(built: IndexBuild):
    assert "pools_means" not in json.loads(built.document.to_json())["model"]
    model = replace(built.document.model, pools_means=False)
    other = IndexDocument.build(model, built.document.features, built.document.galleries)
    assert json.loads(other.to_json())["model"]["pools_means"] is False
    assert IndexDocument.from_json(other.to_json()) == other
    assert other.index != built.document.index


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
        (lambda d: d["model"].update(pools_means=1), "field 'pools_means' is int, not bool"),
        (lambda d: d.update(features={}), "field 'features' is dict, not list"),
        (lambda d: d["galleries"].update(videos={}), "a gallery is unknown"),
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
