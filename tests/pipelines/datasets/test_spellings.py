"""Other spellings of file names."""

import unicodedata
from pathlib import Path

from pipelines.datasets.spellings import existing_path, spellings


def test_spellings_are_unicode_forms_and_cases_of_the_ending():
    nfc, nfd = (unicodedata.normalize(form, "é/Ü") for form in ("NFC", "NFD"))
    assert nfc != nfd
    forms = {f"{stem}{end}" for stem in (nfc, nfd) for end in (".Jpg", ".jpg", ".JPG")}
    assert set(spellings(f"{nfc}.Jpg")) == forms - {f"{nfc}.Jpg"}
    assert spellings("a.jpg") == ["a.JPG"]
    assert spellings("a.b/C") == []


def test_a_uri_has_no_other_spelling():
    assert list(spellings("https://host/é.jpg")) == []


def test_an_existing_path_is_kept(tmp_path: Path):
    for form in ("NFD", "NFC"):
        path = tmp_path / unicodedata.normalize(form, "é")
        path.touch()
        assert existing_path(path) == path
    assert existing_path(tmp_path / "none") == tmp_path / "none"
    assert existing_path(tmp_path / ("x" * 300)).name == "x" * 300
