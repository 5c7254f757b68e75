"""What /openapi.json states: parameters, bodies, responses and errors of every path, also for generated clients."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from pipelines.search.hits import Explanation
from pipelines.service.config import ServiceConfig
from pipelines.service.requests import MAX_FIELDS_BYTES, PairRequest, PhotoRequest, SearchRequest

Status = Literal["ok", "partial", "unavailable"]
_RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
_ERRORS = {
    400: "The body cannot be parsed, the photo cannot be decoded, or X-Request-ID is not valid.",
    401: "The token is missing or wrong.",
    403: "Without a token, the service responds to localhost only.",
    404: "The index does not have the key.",
    408: "The body did not arrive within the deadline.",
    413: f"The body is larger than allowed; JSON beside `image` is limited to {MAX_FIELDS_BYTES} bytes.",
    422: "A field is unknown, missing, given twice or out of its limits.",
    429: "Too many requests are in progress.",
    500: "The service has a defect.",
    503: "No index is served, or a process or store that the request needs is not available.",
    504: "The deadline of the request passed.",
}
_BINARY = {"type": "string", "format": "binary"}
_SIZE = {
    name: {"description": "Size of the original in pixels, in which boxes are given.", "schema": {"type": "integer"}}
    for name in ("Photo-Width", "Photo-Height")
}
_OF_EVERY_PATH, _RETRIED = (400, 401, 403, 429, 500), (429, 503, 504)


class ErrorDocument(BaseModel):
    """The body of every error: what is wrong with which field, with the fix in `message`."""

    field: str | None
    value: Any
    message: str
    request_id: str | None


class Names(BaseModel):
    """The model and the index of a response."""

    model: str
    index: str


class PhotoDocument(BaseModel):
    """A photo of the index, or one of its captions."""

    score: float
    dataset: str
    split: str
    key: str
    source: str
    captions: list[str]
    is_match: bool


class HitDocument(PhotoDocument):
    """A result of a search."""

    rank: int
    explanation: Explanation | None = None


class SearchResponse(Names):
    """The results of a search, the best first."""

    gallery: Literal["photos", "captions"]
    hits: list[HitDocument]
    partial: bool
    missing_shares: list[int]
    seconds: float


class ScoreResponse(Names):
    """The score of a pair; of a photo of the index, also what the index has of it."""

    score: float
    seconds: float
    dataset: str | None = None
    split: str | None = None
    key: str | None = None
    source: str | None = None
    captions: list[str] | None = None
    is_match: bool | None = None


class ExplainResponse(ScoreResponse):
    """The score of a pair, and why it has it."""

    explanation: Explanation


class HealthResponse(BaseModel):
    """The health of the service. Without the token it has `status` and `message` only."""

    status: Status
    message: str | None = None
    field: str | None = None
    value: Any = None
    request_id: str | None = None
    names: Names | None = None
    index: str | None = None
    model: str | None = None
    items: dict[str, int] | None = None
    splits: list[str] | None = None
    shares: int | None = None
    links: dict[str, str | None] | None = None
    champion: str | None = None
    problem: str | None = None


def described(config: ServiceConfig) -> dict[str, dict[str, Any]]:
    """Returns the arguments with which FastAPI adds each path, by `<method> <path>`."""
    search, pair, photo = (limited_fields(kind, config) for kind in (SearchRequest, PairRequest, PhotoRequest))
    thumbnail = {"description": "The thumbnail.", "content": {"image/jpeg": {"schema": _BINARY}}, "headers": _SIZE}
    text = {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    health: dict[str, Any] = {"model": HealthResponse, "description": "The health of the service."}
    return {
        "GET /search": {
            "summary": "Search by sentence, with the fields as parameters.",
            "openapi_extra": {"parameters": _parameters(search)},
            "responses": _responses({"model": SearchResponse}),
        },
        "POST /search": {
            "summary": "Search by sentence or photo.",
            "openapi_extra": {"parameters": _parameters(search), "requestBody": _body(search)},
            "responses": _responses({"model": SearchResponse}),
        },
        "POST /score": {
            "summary": "The exact score of a sentence with a photo.",
            "openapi_extra": {"parameters": _parameters(pair), "requestBody": _body(pair)},
            "responses": _responses({"model": ScoreResponse}),
        },
        "POST /explain": {
            "summary": "Why a sentence and a photo have their score.",
            "openapi_extra": {"parameters": _parameters(pair), "requestBody": _body(pair)},
            "responses": _responses({"model": ExplainResponse}),
        },
        "GET /photo": {
            "summary": "The thumbnail of a photo of the index.",
            "openapi_extra": {"parameters": _parameters(photo)},
            "responses": _responses(thumbnail),
        },
        "GET /healthz": {
            "summary": "Whether searches have results, which index is served, and whether it is the champion's.",
            "responses": _responses(health, (400, 403, 500)) | {503: health | {"headers": _RETRY}},
        },
        "GET /metrics": {
            "summary": "Metrics in Prometheus' text format.",
            "responses": _responses(text, _OF_EVERY_PATH),
        },
    }


def limited_fields(kind: type[BaseModel], config: ServiceConfig) -> dict[str, Any]:
    """Returns the JSON schema of a request with the limits of a service."""
    schema = kind.model_json_schema()
    limits = {"k": min(config.max_k, config.max_candidates), "candidates": config.max_candidates}
    for name in limits.keys() & schema["properties"].keys():
        found = schema["properties"][name]
        found |= {"maximum": limits[name], "default": min(found["default"], limits[name])}
    return schema


def require_bearer(schema: dict[str, Any], open_paths: frozenset[str]) -> None:
    """Adds to an OpenAPI document that all paths but the open ones need the token."""
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in open_paths else [{"token": []}]


def _responses(success: Mapping[str, Any], errors: tuple[int, ...] = tuple(_ERRORS)) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {200: dict(success)}
    for status in errors:
        headers = {"headers": _RETRY} if status in _RETRIED else {}
        found[status] = {"model": ErrorDocument, "description": _ERRORS[status], **headers}
    return found


def _parameters(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the fields but `image` as parameters of the query string, which has no null."""
    found = []
    for name, field in fields["properties"].items():
        if name == "image":
            continue
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        schema = {key: value for key, value in {**field, **kinds[0]}.items() if key not in ("anyOf", "description")}
        if schema.get("default", "") is None:
            del schema["default"]
        parameter = {"name": name, "in": "query", "required": name in fields.get("required", ()), "schema": schema}
        found.append(parameter | {"description": field["description"]})
    return found


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body: the fields as JSON, or a photo beside fields in the query string."""
    content = {"application/json": {"schema": fields}}
    photos = {kind: {"schema": _BINARY} for kind in ("image/*", "application/octet-stream")}
    return {"required": False, "content": content | photos}
