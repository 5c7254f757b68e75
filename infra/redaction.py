"""Removes credentials from text before it is printed, logged or stored."""

import re


def redact(text: str) -> str:
    """Returns the text without the users, passwords and tokens of the URIs in it. A URI ends at white space.

    What a password may contain depends on the reader: anything but `@` in a database URI (SQLAlchemy), anything but
    `/`, `?` and `#` in an HTTP URL.
    """
    text = re.sub(r"\b((?:postgresql|mysql|mssql|oracle)[+\w]*://)[^:/\s]*(?::[^@\s]*)?@", r"\1", text)
    text = re.sub(r"(?<=://)[^/?#\s]+@", "", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s]+", r"\1***", text)
