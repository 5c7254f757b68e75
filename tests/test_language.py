"""Checks that retired words do not come back in documentation, docstrings, comments, help texts, messages and names.

Each entry of RETIRED is a pattern and the standard term to write instead (see CONTRIBUTING.md, "Language"). In a name,
the patterns see its words: `two_stage` is `two stage`.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

RETIRED = {
    r"\b(told|tells|telling)\b|\btell of\b|\bsays\b|\bspeaks? of\b": "states, contains, reports, returns",
    r"\b(go|goes|going|gone|went) on\b": "continue, resume",
    r"\bplaces? of (a|the|this) (run|training|sweep)\b|\bclaim\w* (a|the) place\b|\bno place\b": "run directory",
    r"\bdriver-(N+|\d+)\b": "lease-NNNNNN.json",
    r"\bleave to (read|write)\b": "read permission, write permission",
    r"\bhouse\b|\brooms\b": "codebase, package",
    r"\bfaults? (in|of) (a|an|the|this) (feature set|shard|receipt|index)\b": "integrity error",
    r"\bhold files?\b|\busers/": "pin",
    r"\bpass(es|ing)? by\b": "streaming dataset",
    r"\bshare of (a|the|its) batch\b": "per-rank batch",
    r"\btrain\.accumulate\b": "train.gradient_accumulation_steps",
    r"\btrain\.reading\b|\breading mode\b": "train.data_mode, data mode",
    r"\btrain\.workers(_min)?\b": "train.num_workers, train.min_workers",
    r"\b(?<!mining )(?<!negative )warmup.epochs\b": "hard_negative_warmup_epochs",
    r"\bpoints? of (a|the) curve\b": "metric value",
    r"\b(promotion|quality) gates?\b": "promotion criterion",
    r"\bcandidate (models?|versions?)\b": "challenger",
    r"\b(right|wrong|correct) answers?\b": "correct result, wrong result; gallery item",
    r"\b(swapped|exchanged) (words?|captions?)\b": "perturbation",
    r"\bpreference tests?\b": "directional expectation test",
    r"\bshould make no difference\b": "invariance test",
    r"\bruns of (rows|columns|captions|photos)\b": "row blocks, column blocks",
    r"\b(random|s3|object) marks?\b": "idempotency token",
    r"\bstore\.create\b": "put_if_absent",
    r"\bstore\.sweep\b": "abort incomplete uploads",
    r"\bleaves.root\b": "path traversal",
    r"\bpromises?\b": "schema, contract; states",
    r"\b(cpu|gpu|io|network|decode|detect)[- ]bound\b": "bottleneck",
    r"\b(these|those|all|measured) figures\b": "metrics, results",
    r"\bcut off\b": "interrupted",
    r"\banew\b": "again, restart",
    r"\bbegun\b": "started",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bundisturbed\b": "uninterrupted",
    r"\bdrills?\b": "fault-injection test",
    r"(?<!there )\b(is|are|was|were) no (?!longer|more|better|worse|larger|smaller|wider)": "is not a ...",
    r"\bof ours\b|\bof our own making\b": "valid, recognised",
    r"\b(is|are|be|being|stays?|written|appears?|built|read) whole\b": "valid; complete",
    r"\bwhole (pipeline|line|shard|training|one)s?\b": "complete; end-to-end run",
    r"\bdamaged?\b": "corrupt",
    r"\balike\b": "equal, the same",
    r"\bseats?\b": "lease",
    r"\btaken?.?over\b|\btakes? over (this|the) (run|training|sweep|work)\b": "lost the lease, acquire the lease",
    r"\bgarbage\b": "orphaned objects",
    r"\bsuperseded\b|\bpast index(es)?\b": "snapshot, earlier snapshot",
    r"\bstamps?\b": "version token",
    r"\bnode cache\b": "local shard cache",
    r"\bread(s|ing)? ahead\b": "prefetch",
    r"(?<!early stopping )\bpatience\b|\bpatience.s\b": "deadline, early stopping",
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
    r"\btwo.stage\b": "retrieve-and-rerank",
    r"\bsamples.per.s\b": "captions_per_s",
    r"\bdata.wait\b(?! (fraction|time))": "data_wait_fraction",
    r"\bshares? of (?!(an?|the|this|its|several) (search )?index\b)|\ba share between\b": "fraction; share of an index",
    r"\b(is|are|be|stores?|servers?) away\b": "unreachable",
    r"\bold form\b|\bfor ever\b": "earlier version; without limit",
    r"\brejected(-over-cap)?\.parquet\b": "quarantine.parquet, quarantine-over-cap.parquet",
    r"\brequire.lasting\b": "require_durable_path",
    r"\bthere is none\b|\bis there\b|\bwhat is there\b": "does not exist; what exists",
    r"\bwithout a word\b": "without a message",
    r"\b(model|process(es)?|photo|worker)s? (at|alone in) work\b": "busy; running",
    r"\banswers? (of |to )?\w+ quer(y|ies)\b": "runs queries, result of a query",
    r"\bprints so\b": "prints a notice",
    r"\bthere was\b(?= *[,.;:]|$)|\b(is|are) there(?= *[,.;:]|$)": "exists, existed",
    r"\b(plain|block|compiled|batched) forms?\b": "reference, batched, native implementation",
}
PATTERNS = [(re.compile(pattern, re.IGNORECASE), standard) for pattern, standard in RETIRED.items()]
SUBJECTLESS = r"(Of|By|As|From|To) (a|an|the|each|every|one|all|what|this|those|it)\b"
"""A docstring that starts like this has no subject."""

CODE = ("jobs", "pipelines", "infra", "shan_model")
SAME_MEANING = {"main", "connect", "explained", "preprocess", "attend"}
"""Names that several modules define with one meaning: run a command, connect to a service, explain its errors, prepare
a photo for a network, and one function in two implementations."""
TEXT = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md", "Makefile", "pyproject.toml", "ray_cluster.yaml",
    "infra/deploy/Dockerfile", "infra/deploy/compose.env.example", ".ci/run", ".github/workflows/ci.yml",
)  # fmt: skip
TYPES = {".py", ".yaml", ".cpp", ".md", ".html"}
"""Suffixes of the files in CODE that have text for readers."""
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


@dataclass(frozen=True)
class PythonSource:
    """The nodes and tokens of a Python file."""

    nodes: list[ast.AST]
    tokens: list[tokenize.TokenInfo]

    @classmethod
    def of(cls, source: str) -> "PythonSource":
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        return cls(list(ast.walk(ast.parse(source))), tokens)

    def texts(self) -> Iterator[tuple[int, str]]:
        """Comments and string literals, docstrings included; the parts of an f-string are joined by `{}`."""
        parts = {id(part) for node in self.nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in self.nodes:
            if isinstance(node, ast.JoinedStr):
                yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                yield node.lineno, node.value
        for token in self.tokens:
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def names(self) -> Iterator[tuple[int, str]]:
        """Names in the code, as words: `early_stopping` and `EarlyStopping` are `early stopping`. Each once."""
        first = {t.string: t.start[0] for t in reversed(self.tokens) if t.type == tokenize.NAME}
        return ((line, as_words(name)) for name, line in first.items())

    def docstrings(self) -> Iterator[tuple[int, str]]:
        """Strings that stand alone as a statement: docstrings of modules, classes, functions and fields."""
        for node in self.nodes:
            value = node.value if isinstance(node, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def as_words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip()


def retired_words(texts: Iterator[tuple[int, str]]) -> list[str]:
    """One line for every retired word in these texts: `line: 'word' -> standard term`."""
    return [f"{line}: {found}" for line, text in texts for found in retired_in(" ".join(text.split()))]


@cache
def retired_in(text: str) -> tuple[str, ...]:
    """Returns the retired words of one text. Cached, because most names occur in many files."""
    found = ((pattern.finditer(text), standard) for pattern, standard in PATTERNS)
    return tuple(f"'{match[0]}' -> {standard}" for matches, standard in found for match in matches)


def problems(path: Path) -> list[str]:
    """Retired words in texts and names, and docstrings without a subject, in one file."""
    if path.suffix != ".py":
        quoted = QUOTED.get(path.name)
        return retired_words((n, line) for n, line in markdown_lines(path) if not (quoted and re.match(quoted, line)))
    source = PythonSource.of(path.read_text(encoding="utf-8"))
    subjectless = [f"{n}: '{d[:40]}' -> a full sentence" for n, d in source.docstrings() if re.match(SUBJECTLESS, d)]
    return retired_words(source.texts()) + retired_words(source.names()) + subjectless


def checked_files() -> list[Path]:
    """Every file whose text a user or contributor reads."""
    code = [p for package in CODE for p in (ROOT / package).rglob("*") if p.suffix in TYPES]
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
        "a whole shard",
        "a whole training",
        "a part of ours",
        "driver-000001.json",
        "the answer of a query",
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


def test_file_names_have_no_retired_words():
    assert not [path for path in checked_files() if retired_words(iter([(1, as_words(path.stem))]))]


@pytest.mark.parametrize("name", ["seat", "_two_stage", "TakenOverError", "patience_s", "takeOver", "require_lasting"])
def test_retired_words_are_found_in_names(name, tmp_path):
    path = tmp_path / "names.py"
    path.write_text(f"def f({name}): ...\n")
    assert problems(path)


def test_public_names_have_one_meaning():
    """No two modules define a class or function of the same name."""
    sources = [path.read_text(encoding="utf-8") for package in CODE for path in (ROOT / package).rglob("*.py")]
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    defined = Counter(node.name for source in sources for node in ast.parse(source).body if isinstance(node, kinds))
    assert {name for name, count in defined.items() if count > 1 and not name.startswith("_")} == SAME_MEANING


def test_names_of_tests_are_short():
    files = [path for path in checked_files() if path.name.startswith("test_")]
    assert files
    found = [name for path in files for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))]
    assert not [name for name in found if len(name) > 60]


def test_program_output_and_standard_terms_are_accepted(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("There is no run; resume the training with `gc --delete`.\n```text\nchance 52.1\n```\n")
    assert not problems(page)
