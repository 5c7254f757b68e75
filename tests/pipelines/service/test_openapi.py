"""/openapi.json: a client that is generated from it knows every parameter, limit, response and error."""

import json
from typing import Any

import jsonschema
import pytest

from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.http_api import build_api
from pipelines.service.requests import PhotoRequest, SearchRequest, parse_request, within_limits
from pipelines.service.served import Served
from tests.pipelines.service.test_http_api import FOUND, Handle, exchange, served

CONFIG = ServiceConfig(max_k=50, max_candidates=40)


def document(token: str = "", config: ServiceConfig = CONFIG) -> dict[str, Any]:
    status, found, _ = exchange(Served(config, None), "GET", "/openapi.json", token=token)
    assert status == 200  # without the token, too
    return dict(found)


def parameters(path: str, method: str = "get") -> dict[str, Any]:
    return {found["name"]: found for found in document()["paths"][path][method]["parameters"]}


def schema_of(found: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    """Returns the schema of a JSON response, with what it refers to."""
    content = found["paths"][path][method]["responses"][str(status)]["content"]
    return {**content["application/json"]["schema"], "components": found["components"]}


def test_parameters_have_the_limits_of_the_requests():
    found = parameters("/search")
    assert {name: each["schema"]["type"] for name, each in found.items()} == {
        "sentence": "string",
        "image_uri": "string",
        "k": "integer",
        "candidates": "integer",
        "split": "string",
        "key_prefix": "string",
        "explain": "boolean",
    }
    assert found["sentence"]["schema"]["maxLength"] == 20_000
    assert all(each["description"] and not each["required"] for each in found.values())
    for name in ("k", "candidates"):
        limits = found[name]["schema"]
        assert is_accepted(name, limits["minimum"])
        assert is_accepted(name, limits["maximum"])
        assert not is_accepted(name, limits["minimum"] - 1)
        assert not is_accepted(name, limits["maximum"] + 1)


def is_accepted(field: str, value: int) -> bool:
    try:
        within_limits(parse_request(SearchRequest, [("sentence", "a"), (field, str(value))], "", b""), CONFIG)
    except ServiceError:
        return False
    return True


def test_required_parameters_are_stated():
    found = parameters("/photo")
    assert {name for name, each in found.items() if each["required"]} == {"key"}
    assert found.keys() == PhotoRequest.model_fields.keys()


def test_bodies_are_json_or_a_photo():
    paths = document()["paths"]
    for path in ("/search", "/score", "/explain"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert content.keys() == {"application/json", "image/*", "application/octet-stream"}
        assert "image" in content["application/json"]["schema"]["properties"]
        assert parameters(path, "post").keys() == content["application/json"]["schema"]["properties"].keys() - {"image"}


def test_every_reference_and_schema_is_valid():
    found = document("secret")
    text = json.dumps(found)
    for name, schema in found["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in text
    ids = [each["operationId"] for path in found["paths"].values() for each in path.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("token", ["", "secret"])
def test_the_token_is_stated(token: str):
    found = document(token)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            expected = [] if path == "/healthz" else [{"token": []}]
            assert operation.get("security") == (expected if token else None)
    assert ("securitySchemes" in found["components"]) is bool(token)


@pytest.mark.parametrize(
    ("path", "result", "status"),
    [
        ("/search?sentence=a", FOUND, 200),
        ("/search?sentence=a&k=0", FOUND, 422),
        ("/search?sentence=a", TimeoutError(), 504),
        ("/photo?key=p7", None, 404),
    ],
)
def test_responses_are_as_described(path: str, result: Any, status: int):
    found, body, headers = exchange(served(Handle(search=result, photo=result)), "GET", path)
    described, name = document(), path.partition("?")[0]
    assert found == status
    jsonschema.validate(body, schema_of(described, name, "get", status))
    stated = described["paths"][name]["get"]["responses"][str(status)].get("headers", {})
    assert {header for header in headers if header == "retry-after"} == {header.lower() for header in stated}


def test_every_status_of_an_error_is_described():
    paths = document()["paths"]
    for path in ("/search", "/score", "/explain", "/photo"):
        for operation in paths[path].values():
            assert operation["responses"].keys() >= {
                "400",
                "401",
                "403",
                "404",
                "408",
                "413",
                "422",
                "429",
                "503",
                "504",
            }
    for count, status in ((0, 503), (1, 200)):
        code, body, headers = exchange(served(*[Handle()] * count), "GET", "/healthz")
        assert code == status
        jsonschema.validate(body, schema_of(document(), "/healthz", "get", status))
        assert ("retry-after" in headers) == ("headers" in paths["/healthz"]["get"]["responses"][str(status)])


def test_the_document_is_built_once():
    api = build_api(Served(CONFIG, None), "secret")._app
    assert api.openapi() is api.openapi()
