"""The files of the search page: their headers, and that they name no other origin."""

import asyncio
import re
from typing import Any

import pytest

from pipelines.service.config import ServiceConfig
from pipelines.service.http_api import build_api
from pipelines.service.page.files import HEADERS, PAGE, page_file
from pipelines.service.served import Served


@pytest.mark.parametrize("path", PAGE)
def test_a_file_is_public_and_has_a_policy(path: str):
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [], "http_version": "1.1", "scheme": "http", "server": ("h", 80), "root_path": ""}
    asyncio.run(build_api(Served(ServiceConfig(), None), "secret")(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert (sent[0]["status"], headers["content-type"]) == (200, PAGE[path][1])
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS
    assert b"".join(message["body"] for message in sent[1:]) == page_file(path).body


@pytest.mark.parametrize("path", PAGE)
def test_a_file_refers_only_to_files_of_the_page(path: str):
    text = bytes(page_file(path).body).decode()
    assert re.findall(r"https?://[^\s\"']+", text.replace("http://www.w3.org/2000/svg", "")) == []
    assert set(re.findall(r"/page/[\w.]+", text)) <= set(PAGE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\sstyle=|\son\w+=", text)
