"""Keys that WebDataset accepts, names of data sets that stay different, and path traversal."""

import pytest

from pipelines.datasets.names import dataset_name, escapes_root, normal_uri, safe_key
from pipelines.features.layout import feature_set_name


@pytest.mark.parametrize("source", ["/a", "../a", "a/../../b"])
def test_path_traversal_is_detected(source: str):
    assert escapes_root(source)


@pytest.mark.parametrize("source", ["a/b.jpg", "a..b.jpg", "http://host/../b.jpg"])
def test_paths_below_the_root_and_uris_do_not_escape_it(source: str):
    assert not escapes_root(source)


@pytest.mark.parametrize(
    ("source", "normal"),
    [
        (" HTTP://Host/A.jpg ", "http://Host/A.jpg"),
        ("S3://bucket/a ", "s3://bucket/a "),
        (" a.jpg ", " a.jpg "),
        ("a/HTTP://b.jpg", "a/HTTP://b.jpg"),
    ],
)
def test_a_uri_is_normalised_and_a_path_is_not(source: str, normal: str):
    assert normal_uri(source) == normal


def test_keys_are_safe_for_webdataset():
    assert safe_key("1000092795.jpg") == "1000092795"
    assert safe_key("val2014/COCO_val2014_000000000042.jpg") == "COCO_val2014_000000000042"
    assert safe_key("a.b c/é.f.png") == "__f"


@pytest.mark.parametrize("name", ["flickr8k", "COCO_2014-val", "写真", "données", "हिन्दी", "Ωμέγα-3"])
def test_names_of_letters_digits_and_dashes_stay(name: str):
    assert dataset_name(name) == name


def test_different_names_stay_different_and_are_names_of_folders():
    texts = [
        "a b",
        "a_b",
        "a.b",
        "a/b",
        "a:b",
        "a?b",
        "a%b",
        "a  b",
        "a b.json",
        "猫 犬",
        "猫_犬",
        "猫。犬",
        ".",
        "..",
        "\ud800",
    ]
    names = [dataset_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert [names[1], names[10]] == ["a_b", "猫_犬"]
    assert not [name for name in names if set(name) & set("./:?%# ")]
    assert names[0] == "a_b-c8687a08"  # stored in names of folders, so it must not change


def test_long_names_are_names_of_folders():
    long = ["写" * 66, "写" * 67, "写" * 100, "a" * 200, "a" * 201]
    names = [dataset_name(text) for text in long]
    assert [names[0], names[3]] == [long[0], long[3]]
    assert len(set(names)) == len(long)
    assert max(len(feature_set_name(name, "embedded-ssdlite-0123", 32).encode()) for name in names) < 256


def test_composed_and_decomposed_forms_are_one_name():
    assert dataset_name("donne\u0301es") == dataset_name("données")
