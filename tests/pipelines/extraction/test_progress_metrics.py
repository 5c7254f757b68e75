"""Kinds of rejections: every reason that the code can give has one."""

import ast

import pytest

from pipelines.extraction.progress_metrics import KINDS, rejection_kind
from tests.support import ROOT

RAISED_IN = ("pipelines/datasets", "pipelines/extraction")
ERRORS = {"PhotoError", "NoResponseError"}


def reasons() -> set[str]:
    """Returns the texts that are given to PhotoError or stored as a reason; `7` stands for a value."""
    found = set()
    for folder in RAISED_IN:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                    found.add(text_of(node.args[0]))
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("reason", "photo['reason']"):
                    found.add(text_of(node.value))
    return found - {""}


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "7" for part in node.values)
    return ""


def test_every_reason_has_a_kind():
    found = reasons()
    assert len(found) > 25
    assert not {reason for reason in found if rejection_kind(reason) == "other"}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("cannot be read: No such file or directory", "missing"),
        ("not in its tar file", "missing"),
        ("cannot be read: Permission denied", "unreadable"),
        ("its tar file is truncated", "unreadable"),
        ("HTTP status 404", "download"),
        ("image data is truncated or corrupt", "corrupt"),
        ("larger than 100 MiB", "too_large"),
        ("pixels are floating-point numbers", "unsupported"),
        ("the detector fails on it (ValueError: x)", "detector"),
        ("its process died in 3 attempts to decode it", "process_died"),
        ("of an earlier release", "other"),
    ],
)
def test_kinds_of_reasons(reason: str, kind: str):
    assert rejection_kind(reason) == kind
    assert kind in KINDS
