"""Checks that retired words do not come back in documentation, docstrings, comments, help texts and messages.

Each entry of RETIRED is a pattern and the standard term to write instead (see CONTRIBUTING.md, "Language").
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

RETIRED = {
    r"\b(told|tells|telling)\b|\btell of\b|\bsays\b|\bspeaks? of\b": "states, contains, reports, returns",
    r"\b(go|goes|going|gone|went) on\b": "continue, resume",
    r"\bcut off\b": "interrupted",
    r"\banew\b": "again, restart",
    r"\bbegun\b": "started",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bundisturbed\b": "uninterrupted",
    r"\bdrills?\b": "fault-injection test",
    r"(?<!there )\b(is|are|was|were) no (?!longer|more|better|worse|larger|smaller|wider)": "is not a ...",
    r"\b(one|none|any|names?|objects?) of ours\b|\bof our own making\b": "valid, recognised",
    r"\b(is|are|be|being|stays?|written|appears?|built|read) whole\b|\bwhole (pipe)?line\b": "valid; complete",
    r"\bdamaged?\b": "corrupt",
    r"\balike\b": "equal, the same",
    r"\bseats?\b": "lease",
    r"\btaken? over\b|\btakes? over (this|the) (run|training|sweep|work)\b": "lost the lease, acquire the lease",
    r"\bgarbage\b": "orphaned objects",
    r"\bsuperseded\b|\bpast index(es)?\b": "snapshot, earlier snapshot",
    r"\bstamps?\b": "version token",
    r"\bnode cache\b": "local shard cache",
    r"\bread(s|ing)? ahead\b": "prefetch",
    r"\bpatience\b": "deadline, early stopping",
    r"\bjudg(e|es|ed)\b": "evaluate; evaluation (EMA) model",
    r"\bverdicts?\b|\bcontenders?\b": "decision, challenger",
    r"\b(photo|caption|sentence|word)s? asks?\b": "queries",
    r"\bchance\b": "random baseline",
    r"\btwins?\b": "minimal pairs",
    r"\bkept (score )?matri(x|ces)\b": "score cache",
    r"\bstrips\b": "row blocks",
    r"\bletters\b(?!,? digits)": "einsum subscripts, characters",
    r"\bhalves\b": "float16; half",
    r"\b(takes?|take) (no )?orders\b": "accepts, rejects requests",
    r"\btrouble that passes\b|\bpassing trouble\b": "transient error",
    r"\b(does|do) not concern\b": "has no effect on",
    r"\bhouse's\b": "project's",
    r"\[D[\]:]": "not stated in the paper",
    r"(?<!-to-)\b(text|image) retrieval\b": "image-to-text retrieval, text-to-image retrieval",
    r"\btwo-stage\b": "retrieve-and-rerank",
    r"\bsamples_per_s\b": "captions_per_s",
    r"\bdata_wait\b": "data_wait_fraction",
    r"\brejected(-over-cap)?\.parquet\b": "quarantine.parquet, quarantine-over-cap.parquet",
    r"\brequire_lasting\b": "require_durable_path",
    r"\bthere is none\b|\bwhat is there\b": "does not exist; what exists",
    r"\b(plain|block|compiled|batched) forms?\b": "reference, batched, native implementation",
}
SUBJECTLESS = r"(Of|By|As|From|To) (a|an|the|each|every|one|all|what|this|those|it)\b"
"""A docstring that starts like this has no subject."""

CODE = ("jobs", "pipelines", "infra", "shan_model")
TEXT = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md", "Makefile", "pyproject.toml", "ray_cluster.yaml",
    "infra/deploy/Dockerfile", "infra/deploy/compose.env.example", ".ci/run", ".github/workflows/ci.yml",
)  # fmt: skip
QUOTED = {"CHANGELOG.md": r"^\| "}
"""Lines of a file that may contain retired names: the table of old and new names."""


def markdown_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file, without program output: ```text blocks, whose texts are checked at their source."""
    output = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            output = line.startswith("```text")
        if not output:
            yield number, line


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Comments and string literals, docstrings included; the parts of an f-string are joined by `{}`."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Strings that stand alone as a statement: docstrings of modules, classes, functions and fields."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def retired_words(texts: Iterator[tuple[int, str]]) -> list[str]:
    """One line for every retired word in these texts: `line: 'word' -> standard term`."""
    found = []
    for line, text in texts:
        flat = " ".join(text.split())
        for pattern, standard in RETIRED.items():
            found += [f"{line}: '{match[0]}' -> {standard}" for match in re.finditer(pattern, flat, re.IGNORECASE)]
    return found


def problems(path: Path) -> list[str]:
    """Retired words and docstrings without a subject in one file."""
    if path.suffix != ".py":
        quoted = QUOTED.get(path.name)
        return retired_words((n, line) for n, line in markdown_lines(path) if not (quoted and re.match(quoted, line)))
    source = path.read_text(encoding="utf-8")
    subjectless = [f"{n}: '{d[:40]}' -> a full sentence" for n, d in docstrings(source) if re.match(SUBJECTLESS, d)]
    return retired_words(python_texts(source)) + subjectless


def checked_files() -> list[Path]:
    """Every file whose text a user or contributor reads."""
    code = [p for package in CODE for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".yaml", ".cpp", ".md")]
    tests = [p for folder in ("tests", "scripts") for p in (ROOT / folder).rglob("*.py") if p != Path(__file__)]
    return sorted([*(ROOT / name for name in TEXT), *(ROOT / "docs").rglob("*.md"), *code, *tests])


@pytest.mark.parametrize("path", checked_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_retired_words_do_not_come_back(path):
    found = problems(path)
    assert not found, "\n".join(f"{path.relative_to(ROOT)}:{problem}" for problem in found)


@pytest.mark.parametrize(
    "text",
    [
        "the index is told by the driver",
        "the same command goes on",
        "this is no tracking store",
        "a receipt is damaged",
        "a photo asks for captions",
        "no better than chance",
    ],
)
def test_retired_words_are_found_in_every_kind_of_text(text, tmp_path):
    for name, content in (
        ("page.md", f"{text}\n"),
        ("comment.py", f"# {text}\n"),
        ("docstring.py", f'"""{text}"""\n'),
        ("message.py", f'raise ValueError(f"{{x}}: {text}")\n'),
    ):
        path = tmp_path / name
        path.write_text(content)
        assert problems(path), name


def test_program_output_and_standard_terms_are_accepted(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("There is no run; resume the training with `gc --delete`.\n```text\nchance 52.1\n```\n")
    assert not problems(page)
