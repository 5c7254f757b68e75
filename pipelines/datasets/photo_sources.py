"""Reads photos by URI.

A photo is a local path, a `file://`, `s3://` or `http(s)://` URI, a member of a tar file in the notation of fsspec,
`tar://<member>::<URI of the tar file>`, or likewise a value in a Parquet file,
`parquet://<column>/<row>::<URI of the Parquet file>`, or at a known location in a tar file,
`webdataset://<start>-<end>/<member>::<URI of the tar file>`.
"""

import os
import re
from urllib.parse import quote

from infra.errors import AccessDeniedError, UserError
from infra.paths import absolute
from infra.single_flight import single_flight_cache
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import DownloadLimits, download_uri
from pipelines.datasets.names import normal_uri
from pipelines.datasets.parquet_images import read_parquet_image
from pipelines.datasets.tar_members import read_located_member, read_member

MAX_BYTES = 256 * 2**20
"""Largest accepted file in bytes."""
_IN_PARQUET = re.compile(r"(.+\.parquet)/([^/]+)/(\d+)(?:/[^/]*)?", re.IGNORECASE)
"""Source of an image in a Parquet file: the file, the column, the row and, where it has one, the image's own name."""
_IN_WEBDATASET = re.compile(r"(.+\.tar)/(\d+-\d+/.+)", re.IGNORECASE | re.DOTALL)
"""Source of an image in a webdataset tar: the tar, the bytes of headers and content, and the member."""
_IN_CONTAINER = re.compile("(.*?)::((?:[a-z][a-z0-9+.-]*:/)?/.*)", re.IGNORECASE | re.DOTALL)
"""The rest of the URI of a photo in a file of many: what is inside it, and the file's absolute path or URI."""
CONTAINERS = {"tar": read_member, "parquet": read_parquet_image, "webdataset": read_located_member}
"""Readers of a photo in a file of many, by scheme."""


def photo_uri(root: str, source: str) -> str:
    """Returns the URI of a photo: `source` if it is a URI, else its path below `root` (folder, prefix URI or tar file).

    Below a `file://` or `http(s)://` root, the path is percent-encoded: it is not a URI, and `%2e%2e` must not leave
    the root.
    """
    if "://" in source:
        return source
    if is_tar(root):
        return f"tar://{source}::{root}"
    if match := _IN_PARQUET.fullmatch(source):
        return f"parquet://{match[2]}/{match[3]}::{root.rstrip('/')}/{match[1]}"
    if match := _IN_WEBDATASET.fullmatch(source):
        return f"webdataset://{match[2]}::{root.rstrip('/')}/{match[1]}"
    return f"{root.rstrip('/')}/{quote(source) if root.startswith(('file://', 'http://', 'https://')) else source}"


def read_photo(uri: str, limits: DownloadLimits | None = None) -> bytes:
    """Returns the bytes of a photo. `limits` holds for a photo of a web server.

    Raises PhotoError if the photo is unavailable: it does not exist, read permission is missing, it is larger than
    MAX_BYTES, or a web server reports an error or does not respond after several attempts. Other errors (UserError,
    OSError) are failures of a disk or store rather than of the photo: they end the job, and a rerun resumes it.
    """
    uri = normal_uri(uri)
    scheme, _, rest = uri.partition("://")
    if scheme in ("http", "https"):
        return _limited(download_uri(uri, MAX_BYTES + 1, limits))
    if scheme in CONTAINERS:
        member, container = split_container(rest)
        if not container:
            raise PhotoError(f"cannot be read: names no file that contains it; write {scheme}://{member}::URI")
        return _limited(CONTAINERS[scheme](*_located(container), member, MAX_BYTES + 1))
    store, name = _located(uri)
    try:
        data = store.read(name, 0, MAX_BYTES + 1)
    except (FileNotFoundError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "No such file or directory"
        raise PhotoError(f"cannot be read: {reason}") from error
    except AccessDeniedError as error:
        raise PhotoError("cannot be read: Permission denied") from error
    return _limited(data)


def split_container(rest: str) -> tuple[str, str]:
    """Returns the member and the file of a URI of CONTAINERS without its scheme. The file is "" if it names none.

    A member may have `::` in its name, because the file is an absolute path or a URI, unless a user wrote it otherwise.
    """
    if match := _IN_CONTAINER.fullmatch(rest):
        return match[1], match[2]
    member, _, container = rest.partition("::")
    return member, container


def _located(uri: str) -> tuple[Store, str]:
    """Returns the store and the name of a file. Raises PhotoError for a URI or path that can name none."""
    try:
        require_photo_scheme(uri)
        path = absolute(uri, "photo")
        parent, name = parent_and_name(os.path.normpath(path) if path.startswith("/") else path)  # keeps symbolic links
        return store_of(parent), name
    except UserError as error:
        raise PhotoError(f"cannot be read: {error}") from error


def require_photo_scheme(uri: str) -> None:
    """Raises UserError for a URI of a scheme from which no photo is read. Any path passes."""
    scheme = uri.partition("://")[0]
    if scheme != uri and scheme not in ("http", "https", "s3", "file", *CONTAINERS):
        raise UserError(f"photo {uri}: {scheme}:// is not supported; give a path, https:// or s3://bucket/key")


def parent_and_name(uri: str) -> tuple[str, str]:
    """Splits a URI or absolute path at its last `/`."""
    parent, _, name = uri.rpartition("/")
    return parent or "/", name


@single_flight_cache(1024)
def store_of(uri: str) -> Store:
    """Returns the store of a folder or prefix; the same one for the same URI."""
    return open_store(uri)


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise PhotoError(f"larger than {MAX_BYTES >> 20} MiB")
    return data


def is_tar(root: str) -> bool:
    """Returns whether a photo root is a tar file, by its ending."""
    return root.lower().endswith(".tar")
