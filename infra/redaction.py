"""Removes credentials from text before it is printed, logged or stored."""

import re


def redact(text: str) -> str:
    """Returns the text without the users, passwords, tokens and signatures of the URIs in it, which end at white space.

    What a password may contain depends on the reader: anything but `@` in a database URI (SQLAlchemy), anything but
    `/`, `?` and `#` in an HTTP URL.
    """
    text = re.sub(r"\b((?:postgresql|mysql|mssql|oracle)[+\w]*://)[^:/\s]*(?::[^@\s]*)?@", r"\1", text)
    text = re.sub(r"(?<=://)[^/?#\s]+@", "", text)
    words = r"password|passwd|pwd|token|secret|signature|credentials?|api[_-]?key"
    name = rf"(?:[\w-]*(?:{words})|(?:[\w-]+[_-])?sig)"  # also X-Amz-Signature, access_token and sslpassword
    return re.sub(rf"(?i)([?&#;]{name}=)[^&;\s]+", r"\1***", text)
