"""Other spellings of file names: file systems and archives differ in Unicode form and in the case of endings.

macOS stores names in NFD, most other systems as they were typed, which is NFC; cameras write `.JPG`.
"""

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Literal

_FORMS: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")


def composed(name: str) -> str:
    """Returns a name in NFC, in which names of both Unicode forms are compared."""
    return unicodedata.normalize("NFC", name)


def spellings(path: str) -> list[str]:
    """Returns other spellings of a relative path: Unicode forms, each with its ending in lower and in upper case.

    A URI has none.
    """
    found: dict[str, None] = {}
    for form in _FORMS if "://" not in path else ():
        spelled = unicodedata.normalize(form, path)
        ending = PurePosixPath(spelled).suffix
        stem = spelled.removesuffix(ending)
        found |= dict.fromkeys((spelled, stem + ending.lower(), stem + ending.upper()))
    return [other for other in found if other != path]


def existing_path(path: Path) -> Path:
    """Returns the path in the Unicode form in which it exists, or else as it is."""
    forms = (Path(unicodedata.normalize(form, str(path))) for form in _FORMS)
    return next((each for each in (path, *forms) if os.path.exists(each)), path)  # noqa: PTH110 - it never raises
