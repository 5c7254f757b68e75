"""Hits and explanations as text and as JSON."""

import json

from pipelines.search.hits import Explanation, Hit, Word, listing, results_document

PLACE = ("tiny", "val", "p4", "p4.png", "/photos/p4.png")
PHOTO = Hit(3, 1.23456, *PLACE, ("a dog", "a cat"), is_match=True)
CAPTION = Hit(9, 0.5, *PLACE, ("a cat",))
EXPLANATION = Explanation(
    {"S_L2L": 0.5, "S_G2G": 0.25}, (Word("a", True, 0, 0.5, None), Word("dog", False, 2, 0.75, (0, 0, 1, 1)))
)


def test_the_listing_numbers_photos_and_marks_a_match():
    text = listing(["a dog"], [[PHOTO, Hit(0, 0.1, *PLACE, ())]], captions=False)
    assert text.splitlines() == ['"a dog"', "  1. p4.png  1.235  *", "  2. p4.png  0.100"]


def test_the_listing_of_captions_names_their_photos():
    assert listing(["x.jpg"], [[CAPTION]], captions=True).splitlines() == ["x.jpg", '  1. "a cat"  (p4.png)  0.500']


def test_explanations_follow_their_hits():
    lines = listing(["a dog"], [[PHOTO]], captions=False, explanations=[[EXPLANATION]]).splitlines()
    assert lines[2:] == ["       S_L2L 0.500, S_G2G 0.250", "       a: region 0 (0.50), dog (unknown): region 2 (0.75)"]


def test_the_document_is_json_and_has_everything():
    (found,) = json.loads(json.dumps(results_document(["a dog"], [[PHOTO]], [[EXPLANATION]])))
    (hit,) = found["hits"]
    assert (found["query"], hit["rank"], hit["score"], hit["is_match"]) == ("a dog", 1, 1.23456, True)
    assert hit["captions"] == ["a dog", "a cat"]
    assert hit["explanation"]["words"][1] == {
        "word": "dog",
        "known": False,
        "region": 2,
        "weight": 0.75,
        "box": [0, 0, 1, 1],
    }
    assert "explanation" not in results_document(["a dog"], [[PHOTO]])[0]["hits"][0]
