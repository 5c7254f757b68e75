"""The files of the search page as responses."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import Response

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/search.css": ("search.css", "text/css; charset=utf-8"),
    "/page/search.js": ("search.js", "text/javascript; charset=utf-8"),
    "/page/api.js": ("api.js", "text/javascript; charset=utf-8"),
    "/page/results.js": ("results.js", "text/javascript; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""File and media type of each path."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: nothing of another origin, nothing inline. Photos are `blob:` URLs."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_file(path: str) -> Response:
    """Returns the response of a path of PAGE."""
    name, media_type = PAGE[path]
    return Response(_content(name), headers=dict(HEADERS), media_type=media_type)


@cache
def _content(name: str) -> bytes:
    return (files(__package__) / name).read_bytes()
