"""What is told, stored or shown holds no user and no password."""

import re


def redact(text: str) -> str:
    """The text without users and passwords of URIs in it: they are neither printed nor logged.

    What they may hold depends on who reads them: a password is all but `@` for SQLAlchemy, all but `/`, `?` and `#` for
    HTTP clients. Spaces end a URI.
    """
    text = re.sub(r"\b((?:postgresql|mysql|mssql|oracle)[+\w]*://)[^:/\s]*(?::[^@\s]*)?@", r"\1", text)
    text = re.sub(r"(?<=://)[^/?#\s]+@", "", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s]+", r"\1***", text)
