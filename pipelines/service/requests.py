"""What clients ask for: the fields of a request, their limits, and the errors for those that do not keep to them."""

import base64
import json
import re
from collections.abc import Iterable
from string import whitespace
from typing import Any, Self, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from infra.errors import UserError
from infra.paths import absolute
from pipelines.search.config import CANDIDATES, MAX_CHARACTERS
from pipelines.search.index import sentence_problem
from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError, shown

MAX_EXPLAINED = 100
"""Results that a search explains."""
MAX_FIELDS_BYTES = 300_000
"""Largest size of a JSON body beside the text of `image`; the longest sentence has 240,000 bytes of JSON escapes.

The router parses a body between other requests, so parsing one must take milliseconds.
"""

_IMAGE = re.compile(rb'"image"\s*:\s*"([^"]*)"')
_OF_FIELD = "of_field"
"""Type of the errors of `_problem`."""
_ABSOLUTE = re.compile("/|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""Start of an absolute path or a URI."""


def _problem(field: str, value: Any, message: str) -> PydanticCustomError:
    """Returns the error of a field that depends on others."""
    return PydanticCustomError(_OF_FIELD, "{message}", {"field": field, "value": value, "message": message})


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: Any) -> Any:
        """Refuses lists, objects, true as a number, which pydantic takes for 1, and text that UTF-8 cannot have."""
        if isinstance(value, list | dict) or (isinstance(value, bool) and info.field_name != "explain"):
            raise ValueError("give a number or text")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("is not valid text (half of a surrogate pair); give Unicode text") from error
        return value


Kind = TypeVar("Kind", bound=_Request)


class _WithImage(_Request):
    image: str | None = Field(None, description="The photo, as base64 text.")
    image_uri: str | None = Field(None, description="URI of the photo, below one of the service's image sources.")
    sentence: str | None = Field(None, max_length=MAX_CHARACTERS, description="A text query.")

    @field_validator("sentence")
    @classmethod
    def _has_words(cls, sentence: str | None) -> str | None:
        if sentence is not None and (problem := sentence_problem(sentence)):
            raise ValueError(problem)
        return sentence


class SearchRequest(_WithImage):
    """A search: a sentence finds photos, a photo finds captions. Exactly one of them is given."""

    k: int = Field(10, ge=1, description="Number of results.")
    candidates: int = Field(CANDIDATES, ge=1, description="Number of items that are scored exactly.")
    split: str | None = Field(None, description="Restricts the search to a split.")
    key_prefix: str = Field("", max_length=1000, description="Restricts the search to keys with this prefix.")
    explain: bool = Field(default=False, description="Adds level scores and the best region of each word; photos only.")

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if sum(given is not None for given in (self.sentence, self.image, self.image_uri)) != 1:
            raise ValueError("give exactly one of sentence, image and image_uri")
        if self.explain and self.sentence is None:
            raise _problem("explain", True, "explain has no effect on a search by photo; omit it, or use /explain")
        if self.explain and self.k > MAX_EXPLAINED:
            raise _problem("k", self.k, f"k is {self.k}; with explain it must be at most {MAX_EXPLAINED}")
        return self

    @property
    def gallery(self) -> str:
        """The gallery that is searched."""
        return "captions" if self.sentence is None else "photos"


class PairRequest(_WithImage):
    """A sentence and a photo: one of the index by its key, or one that the client sends."""

    key: str | None = Field(None, min_length=1, max_length=1000, description="Key of a photo of the index.")
    dataset: str | None = Field(None, description="Its data set, if several have the key.")

    @model_validator(mode="after")
    def _one_photo(self) -> Self:
        if self.sentence is None:
            raise _problem("sentence", None, "sentence is missing; give the sentence of the pair")
        if sum(given is not None for given in (self.key, self.image, self.image_uri)) != 1:
            raise ValueError("give exactly one of key, image and image_uri")
        if self.dataset is not None and self.key is None:
            raise _problem("dataset", self.dataset, "dataset has no effect without key; omit it")
        return self


class PhotoRequest(_Request):
    """A photo of the index."""

    key: str = Field(min_length=1, max_length=1000, description="Key of the photo.")
    dataset: str | None = Field(None, description="Its data set, if several have the key.")


def parse_request(kind: type[Kind], query: Iterable[tuple[str, str]], content_type: str, body: bytes) -> Kind:
    """Returns the request in a JSON body, or in the query string, beside which the body may be a photo's bytes.

    Raises ServiceError with status 400 for a body that cannot be parsed, 413 for one that is larger than its fields can
    be, and 422 for a field that is unknown, given twice or out of its limits.
    """
    in_body: dict[str, Any] = {}
    kind_of_body = content_type.partition(";")[0].strip().lower()
    if body and (kind_of_body.startswith("image/") or kind_of_body == "application/octet-stream"):
        in_body = {"image": base64.b64encode(body).decode()}
    elif body:
        in_body = _json_fields(body)
    fields = _given_once([*query, *in_body.items()])
    _require_known(kind, fields)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from error


def within_limits(request: SearchRequest, config: ServiceConfig) -> SearchRequest:
    """Returns a search whose defaults are lowered to what the service allows.

    Raises ServiceError for a given number that is larger.
    """
    limits = {"k": min(config.max_k, config.max_candidates), "candidates": config.max_candidates}  # all k are scored
    for field, limit in limits.items():
        if field in request.model_fields_set and (value := getattr(request, field)) > limit:
            raise ServiceError(422, f"{field} is {shown(value)}; it must be at most {limit}", field, value)
    return request.model_copy(update={field: min(getattr(request, field), limit) for field, limit in limits.items()})


def image_bytes(image: str) -> bytes:
    """Returns the bytes of base64 text, which may be a `data:` URI. Raises ServiceError for other text."""
    encoded = image.partition(",")[2] if image.startswith("data:") else image
    try:
        return base64.b64decode(encoded.encode("ascii").translate(None, whitespace.encode()), validate=True)
    except ValueError as error:
        raise ServiceError(
            400, f"image is not base64 text ({error}); encode the photo's bytes", "image", image
        ) from error


def require_allowed(uri: str, sources: tuple[str, ...]) -> str:
    """Returns the location of a photo, absolute if it is a path.

    Raises ServiceError for one that is not below one of the prefixes that the service may read.
    """
    if not _ABSOLUTE.match(uri):  # `~user` would tell which users exist
        raise ServiceError(422, "image_uri is neither a URI nor an absolute path; give one of them", "image_uri", uri)
    try:
        location = absolute(uri, "image_uri")
    except UserError as error:
        raise ServiceError(422, str(error), "image_uri", uri) from error
    if not any(location.startswith(prefix) for prefix in sources):
        fix = f"use one below {', '.join(sources)}" if sources else "send the photo's bytes as image"
        raise ServiceError(422, f"image_uri is {uri[:100]}, which the service may not read; {fix}", "image_uri", uri)
    if ".." in unquote(uri).replace("\\", "/").split("/"):
        raise ServiceError(422, "image_uri has .. in its path; give a URI without it", "image_uri", uri)
    return location


def invalid(error: ValidationError) -> ServiceError:
    """Returns the first problem of a request as an error."""
    found = error.errors()[0]
    field, value = ".".join(map(str, found["loc"])) or None, found["input"]
    limits, reason = found.get("ctx", {}), found["msg"].removeprefix("Value error, ")
    if found["type"] == _OF_FIELD:
        return ServiceError(422, reason, limits["field"], limits["value"])
    if found["type"] == "greater_than_equal":
        message = f"{field} is {shown(value)}; it must be at least {limits['ge']}"
    elif found["type"] == "missing":
        message, value = f"{field} is missing; give it", None
    elif field is None:
        message, value = reason, None
    else:
        message = f"{field}: {reason[0].lower()}{reason[1:]}"
    return ServiceError(422, message, field, value)


def _given_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the fields by name. Raises ServiceError for one that is given twice."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ServiceError(422, f"{shown(name)} is given twice; give it once", name)
        fields[name] = value
    return fields


def _require_known(kind: type[_Request], fields: Iterable[str]) -> None:
    """Raises ServiceError for the first unknown field, before the validation, which makes an error of each."""
    unknown = next((name for name in fields if name not in kind.model_fields), None)
    if unknown is not None:
        message = f"{shown(unknown)} is not a field; the fields are {', '.join(kind.model_fields)}"
        raise ServiceError(422, message, unknown)


def _json_fields(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_FIELDS_BYTES:
        image = _IMAGE.search(body)
        if (size := len(body) - len(image[1] if image else b"")) > MAX_FIELDS_BYTES:
            limit = MAX_FIELDS_BYTES // 1000
            message = f"the body is JSON with {size} bytes beside image; send at most {limit} kB of other fields"
            raise ServiceError(413, message, "body", size)
    try:
        found = json.loads(body, object_pairs_hook=_given_once)
    except (ValueError, RecursionError) as error:
        raise ServiceError(
            400, f"the body is not JSON ({str(error)[:100]}); send JSON, or a photo with Content-Type image/jpeg"
        ) from error
    if not isinstance(found, dict):
        raise ServiceError(400, f"the body is a JSON {type(found).__name__}; send an object of fields")
    return found
