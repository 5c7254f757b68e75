"""The HTTP interface: paths, and the errors that clients receive as JSON."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipelines.service.errors import ServiceError, service_error, several, shown
from pipelines.service.guard import CLOSED, REQUEST_ID, TRUSTED, Guard
from pipelines.service.health import UNAVAILABLE
from pipelines.service.openapi import described, require_bearer
from pipelines.service.page.files import PAGE, page_file
from pipelines.service.requests import (
    PairRequest,
    PhotoRequest,
    SearchRequest,
    image_bytes,
    parse_request,
    require_allowed,
    within_limits,
)
from pipelines.service.served import Served, ServedGallery

PATHS = frozenset({"/search", "/score", "/explain", "/photo", "/healthz", "/metrics", "/openapi.json"})
OPEN_PATHS = frozenset({"/healthz", "/openapi.json", *PAGE})
"""Paths that need no token. /openapi.json is the same for every service but for limits of numbers."""
OPEN_HEALTH = ("status", "message")
"""Fields of the health check that need no token."""
PHOTO_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Thumbnails are for clients with the token only, and no page of another site may show those of a local service."""


def build_api(served: Served, token: str) -> Any:
    """Returns the ASGI application of a router; clients need the token if it is not empty."""

    @asynccontextmanager
    async def watching(_api: FastAPI) -> AsyncIterator[None]:
        async with served.watching():
            yield

    api = FastAPI(
        title="shan-line search",
        docs_url=None,  # this page and the next one need a CDN
        redoc_url=None,
        lifespan=watching,
        redirect_slashes=False,  # to a host that the client names
    )
    _add_paths(api, served)
    _add_page(api)
    if token:
        require_bearer(api.openapi(), OPEN_PATHS)  # of the document that FastAPI keeps
    api.add_exception_handler(ServiceError, _service_error)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(ClientDisconnect, _closed)
    api.add_exception_handler(Exception, _defect)
    return Guard(api, served.config, token, served.metrics, PATHS | OPEN_PATHS, OPEN_PATHS)


def _add_paths(api: FastAPI, served: Served) -> None:
    paths = described(served.config)

    @api.get("/search", **paths["GET /search"])
    @api.post("/search", **paths["POST /search"])
    async def search(request: Request) -> JSONResponse:
        return await _respond_json(served, request, SearchRequest, _search)

    @api.post("/score", **paths["POST /score"])
    async def score(request: Request) -> JSONResponse:
        return await _respond_json(served, request, PairRequest, _score)

    @api.post("/explain", **paths["POST /explain"])
    async def explain(request: Request) -> JSONResponse:
        return await _respond_json(served, request, PairRequest, _explain)

    @api.get("/photo", response_class=Response, **paths["GET /photo"])
    async def photo(request: Request) -> Response:
        return await _respond(served, request, PhotoRequest, _thumbnail)

    @api.head("/healthz", include_in_schema=False)
    @api.get("/healthz", **paths["GET /healthz"])
    async def healthz(request: Request) -> JSONResponse:
        try:
            document, status, headers = _about(served), 200, {}
        except ServiceError as error:
            document = {"status": UNAVAILABLE} | error.document(request.scope[REQUEST_ID])
            status, headers = error.status, error.headers()
        if not request.scope[TRUSTED]:
            return JSONResponse({name: document[name] for name in OPEN_HEALTH if name in document}, status, headers)
        following = {name: served.following[name] for name in ("champion", "problem")}
        return JSONResponse(document | following, status, headers)

    @api.get("/metrics", response_class=Response, **paths["GET /metrics"])
    async def metrics() -> Response:
        return Response(served.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_page(api: FastAPI) -> None:
    async def page(request: Request) -> Response:
        return page_file(request.url.path)

    for path in PAGE:
        api.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)


def _about(served: Served) -> dict[str, Any]:
    """Returns what is served and its health. Raises ServiceError if searches cannot have a result."""
    gallery, health = served.gallery, served.health.status
    if health == UNAVAILABLE:
        raise ServiceError(503, "the latest searches failed, or no share of the index runs; try again", retry_after_s=5)
    return {"status": health, "names": gallery.names} | gallery.about


async def _respond(served: Served, request: Request, kind: Any, work: Callable[..., Awaitable[Any]]) -> Any:
    """Reads a request and returns the result of `work`, which is given its end.

    Raises the error that its failure is to a client.
    """
    end = asyncio.get_running_loop().time() + served.config.deadline_s
    try:
        body = await _read_body(request, end)
        async with asyncio.timeout_at(end):
            content_type = request.headers.get("content-type", "")
            parsed = parse_request(kind, request.query_params.multi_items(), content_type, body)
            return await work(served, parsed, end)
    except Exception as error:
        found = service_error(error)
        if found is None:
            raise
        raise found from error


async def _read_body(request: Request, end: float) -> bytes:
    try:
        async with asyncio.timeout_at(end):
            return await request.body()
    except TimeoutError as error:
        raise ServiceError(408, "the body did not arrive within the deadline; send a smaller one", "body") from error


async def _respond_json(
    served: Served, request: Request, kind: Any, work: Callable[..., Awaitable[Any]]
) -> JSONResponse:
    start = time.monotonic()
    document = await _respond(served, request, kind, work)
    return JSONResponse({**document, "seconds": round(time.monotonic() - start, 4)})


async def _search(served: Served, request: SearchRequest, end: float) -> dict[str, Any]:
    request = within_limits(request, served.config)
    gallery = served.gallery
    gallery.require(request.gallery)
    if request.split is not None and request.split not in gallery.about["splits"]:
        splits = ", ".join(gallery.about["splits"])
        raise ServiceError(
            422, f"split is {shown(request.split) or 'empty'}; the index has {splits}", "split", request.split
        )
    is_all = request.split is None and not request.key_prefix
    where = None if is_all else (request.split, request.key_prefix)
    query: Any = request.sentence
    stages: dict[str, float] = {}
    if query is None:
        start = time.monotonic()
        query, _ = await gallery.detect(_photo(served, request))
        stages["detect"] = time.monotonic() - start
    left = end - asyncio.get_running_loop().time()
    numbers = (request.k, request.candidates, where, request.explain, left)
    with served.health.counting(end):
        found = await gallery.call("search", query, *numbers, end=end)
    stages |= found["stages"]
    served.record_search(request.gallery, max(request.candidates, request.k), found["partial"], stages)
    result = {name: value for name, value in found.items() if name != "stages"}
    return {"gallery": request.gallery, **result, **gallery.names}


async def _explain(served: Served, request: PairRequest, end: float) -> dict[str, Any]:
    gallery = served.gallery
    if request.key is None:
        regions = await gallery.detect(_photo(served, request))
        return await gallery.call("score_photo", request.sentence, *regions, end=end) | gallery.names
    pair = await _of_key(gallery, "score_key", request, request.sentence)
    return pair | gallery.names


async def _thumbnail(served: Served, request: PhotoRequest, _end: float) -> Response:
    found = await _of_key(served.gallery, "photo", request)
    size = {"Photo-Width": str(found.width), "Photo-Height": str(found.height)}
    return Response(found.jpeg, headers=PHOTO_HEADERS | size, media_type="image/jpeg")


async def _of_key(gallery: ServedGallery, method: str, request: PairRequest | PhotoRequest, *arguments: Any) -> Any:
    """Returns the response of the share that has a photo with this key. Raises ServiceError for none or several."""
    gallery.require("photos")
    key, dataset = str(request.key), request.dataset
    found = await gallery.holders(method, *arguments, key, dataset, is_unique=dataset is not None)
    if not found:
        of_dataset = "" if dataset is None else f" in data set {shown(dataset)}"
        message = f"key is {shown(key)}, which the index does not have{of_dataset}; take key and dataset from /search"
        raise ServiceError(404, message, "key", key)
    if len(found) > 1:
        raise several(len(found), key)
    return found[0]


async def _score(served: Served, request: PairRequest, end: float) -> dict[str, Any]:
    document = await _explain(served, request, end)
    return {name: value for name, value in document.items() if name != "explanation"}


def _photo(served: Served, request: SearchRequest | PairRequest) -> bytes | str:
    """Returns the bytes of the photo of a request, or its location if the service may read it."""
    if request.image is not None:
        return image_bytes(request.image)
    return require_allowed(str(request.image_uri), served.config.image_sources)


async def _service_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse(error.document(request.scope[REQUEST_ID]), error.status, error.headers())


async def _http_error(request: Request, error: Any) -> JSONResponse:
    """Responds to an unknown path or method."""
    message = f"{request.method} {request.url.path[:100]}: {error.detail}; the paths are in /openapi.json"
    found = ServiceError(error.status_code, message)
    headers = dict(error.headers or {})
    if "Allow" in headers:  # of one route only
        routes = [route for route in request.app.routes if getattr(route, "path", None) == request.url.path]
        headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods}))
    return JSONResponse(found.document(request.scope[REQUEST_ID]), found.status, headers)


async def _closed(request: Request, error: Any) -> Response:  # noqa: ARG001 - the signature of a handler
    """Ends a request whose client closed the connection before its body arrived; nobody receives this."""
    return Response(status_code=CLOSED)


async def _defect(request: Request, error: Any) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    """Responds to a defect, whose traceback goes to the log."""
    found = ServiceError(500, "the service has a defect; its log has the traceback")
    return JSONResponse(found.document(request.scope[REQUEST_ID]), found.status)
