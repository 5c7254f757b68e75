"""Checks the documentation against the code: links, paths, commands, options, fields, events, messages, commits."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import jobs.main
from jobs.config import Config
from shan_model.metrics import Recalls
from tests.support import ROOT
from tests.test_language import CODE, PythonSource

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
TOP = ("jobs", "pipelines", "infra", "shan_model", "tests", "docs", "scripts", ".ci", ".github")
COMMANDS = sorted(jobs.main.COMMANDS)
SUBCOMMANDS = {"features": ("verify", "inspect", "gc", "import", "export"), "index": ("verify", "gc")}
COMMIT = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{7}\b")
FOREIGN_MESSAGES = {"No available agent"}
"""Messages of Ray that the troubleshooting table quotes."""
EVENT_FUNCTIONS = {"event", "service_event", "_event"}
"""Functions whose first argument is the name of an event."""
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block, indented ones included."""
    return [(m[2], m[3]) for m in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """Contents of inline code."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def code_of(text: str) -> list[str]:
    """Inline code and the lines of shell blocks, continuation lines joined."""
    shell = [block.replace("\\\n", " ") for language, block in blocks(text) if language == ""]
    return inline(text) + [line.strip() for block in shell for line in block.splitlines()]


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def help_texts() -> dict[str, str]:
    """The help of every command and subcommand, by its words; one process prints all of them."""
    program = """
import contextlib, importlib, io, json, sys
shown = {}
for words in json.loads(sys.argv[1]):
    sys.argv = [words[0], *words[1:], "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        importlib.import_module(f"jobs.{words[0]}").main()
    shown[" ".join(words)] = out.getvalue()
print(json.dumps(shown))
"""
    wanted = [[command] for command in COMMANDS] + [
        [command, name] for command, names in SUBCOMMANDS.items() for name in names
    ]
    arguments = [sys.executable, "-c", program, json.dumps(wanted)]
    shown = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = json.loads(shown)
    return found


def options_of(*words: str) -> frozenset[str]:
    """Options that the help of a command, or of a subcommand, lists."""
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w.-]*", help_texts()[" ".join(words)]))


def every_option() -> frozenset[str]:
    """Options of all commands and subcommands."""
    of_subcommands = (options_of(command, name) for command, names in SUBCOMMANDS.items() for name in names)
    return frozenset.union(*map(options_of, COMMANDS), *of_subcommands)


@cache
def source_texts() -> list[str]:
    """Comments and strings of the code; in f-strings `{}` stands for a value."""
    sources = [path.read_text(encoding="utf-8") for package in CODE for path in (ROOT / package).rglob("*.py")]
    return [" ".join(text.split()) for source in sources for _, text in PythonSource.of(source).texts()]


def documented_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(command, arguments) of every `python -m jobs.<command>` and `shan <command>` in code."""
    for code in code_of(text):
        match = re.search(r"(?:python -m jobs\.|(?:^|/)shan )(\w+)(.*)", code)
        if match:
            yield match[1], shlex.split(match[2].replace("...", ""), comments=True)


def accepted_options(command: str, arguments: list[str]) -> frozenset[str]:
    """Options that a command line may use; those of the submitted command, too, for `submit`."""
    if command in SUBCOMMANDS:
        return options_of(command, *(a for a in arguments[:1] if a in SUBCOMMANDS[command]))
    if command == "submit" and arguments and arguments[0] in COMMANDS:
        return options_of(command) | accepted_options(arguments[0], arguments[1:])
    return options_of(command)


@every_page
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@every_page
def test_paths_exist(page):
    for code in code_of(page.read_text(encoding="utf-8")):
        for word in code.split():
            if word.split("/")[0] in TOP and re.fullmatch(r"[\w./*-]+", word) and "/" in word and ".env" not in word:
                assert list(ROOT.glob(word.rstrip("/"))), f"{word} does not exist"


@every_page
def test_commands_exist_and_accept_their_options(page):
    for command, arguments in documented_commands(page.read_text(encoding="utf-8")):
        assert command in COMMANDS, f"there is no command {command}"
        used = {argument.split("=")[0] for argument in arguments if argument.startswith("--")} - {"--help"}
        assert used <= accepted_options(command, arguments), f"{command} {' '.join(arguments)}"


@every_page
def test_commands_named_in_prose_exist(page):
    for command in re.findall(r"`jobs\.(\w+)", page.read_text(encoding="utf-8")):
        assert command in COMMANDS, f"there is no command {command}"


@every_page
def test_options_named_in_prose_exist(page):
    for code in inline(page.read_text(encoding="utf-8")):
        option = re.match(r"--[a-z][\w.-]*", code)
        if option and option[0] not in ("--help", "--artifacts-destination"):
            assert option[0] in every_option(), f"no command has the option {option[0]}"


def test_options_named_in_the_changelog_exist():
    """Those of the latest version, without its tables, which also name the options of before."""
    latest = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    for code in inline("\n".join(line for line in latest.splitlines() if not line.startswith("|"))):
        command, *arguments = code.removeprefix("jobs.").split()
        named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*(?![\w.*-])", code)) - {"--help"}
        known = accepted_options(command, arguments) if command in COMMANDS else every_option()
        assert named <= known, f"CHANGELOG.md: `{code}` names an option that does not exist"


@every_page
def test_config_fields_exist(page):
    """Every `section.field` is a field, except a tag of runs with the name of a section."""
    sections = {section.name: section.type for section in fields(Config)}
    for code in inline(page.read_text(encoding="utf-8")):
        match = re.fullmatch(r"(\w+)\.([a-z]\w*)(=\w+)?", code)
        if match and match[1] in sections and match[2] not in ("py", "md", "json") and code != "sweep.stopped_by":
            assert match[2] in {field.name for field in fields(sections[match[1]])}, f"there is no field {code}"


@every_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in code_of(page.read_text(encoding="utf-8")):
        if match := re.match(r"make ([a-z][\w-]*)", code):
            assert match[1] in targets, f"the Makefile has no target {match[1]}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "README.md"], ids=lambda page: page.name)
def test_pages_begin_with_their_readers(page):
    title, *rest = [line for line in page.read_text(encoding="utf-8").splitlines() if line]
    assert title.startswith("# ")
    assert rest[0].startswith("For ")


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to").glob("*.md")), ids=lambda page: page.stem)
def test_how_tos_are_numbered_steps(page):
    """Every how-to has lists of steps, each numbered from 1 without gaps."""
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", page.read_text(encoding="utf-8"), re.MULTILINE)]
    assert numbers
    assert all(number in (1, earlier + 1) for earlier, number in pairwise([0, *numbers]))
    assert all(earlier > 1 for earlier, number in pairwise([*numbers, 1]) if number == 1), "a list of one step"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_readme_lists_folders_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = [block for _, block in blocks(text) if block.startswith("jobs/")]
    parent = ""
    for line in tree.splitlines():
        name = line.split()[0]
        parent = parent if line.startswith(" ") else name
        path = ROOT / (parent + name if line.startswith(" ") else name)
        assert path.is_dir(), f"{path} does not exist"


def test_names_of_mlflow_runs_are_those_of_the_code():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## MLflow\n")[1].split("\n## ")[0]
    names = {
        re.sub("^(val|test|seconds)_", "", name) for name in inline(section) if re.fullmatch(r"[a-z]\w*(\.\w+)?", name)
    }
    texts = source_texts()
    assert len(names) > 30
    for name in names - {"jobs.quickstart"}:
        last = name.rpartition(".")[2] if name.startswith(("lineage.", "promotion.", "selection.")) else name
        assert any(last in text for text in texts) or last in Recalls.__dataclass_fields__, f"nothing records {name}"


def logged_events(tree: ast.AST) -> set[str]:
    """Returns the names of a module's events: of calls, of the fields of messages, and of traced methods."""
    nodes, named = list(ast.walk(tree)), list[ast.AST]()
    assigned = {
        ast.unparse(target): node.value for node in nodes if isinstance(node, ast.Assign) for target in node.targets
    }
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in EVENT_FUNCTIONS:
            named += [node.args[0], assigned.get(getattr(node.args[0], "id", ""), node.args[0])]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named += [value for key, value in pairs if getattr(key, "value", "") == "event"]
        elif isinstance(node, ast.AsyncFunctionDef) and "traced" in map(ast.unparse, node.decorator_list):
            named.append(ast.Constant(node.name))
    named += [branch for node in named if isinstance(node, ast.IfExp) for branch in (node.body, node.orelse)]
    return {str(node.value) for node in named if isinstance(node, ast.Constant)}


def test_documented_events_are_those_of_the_code():
    text = (ROOT / "docs/debugging.md").read_text(encoding="utf-8")
    section = text.split("\n## Events for machines\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    table = {name for cell in cells for name in inline(cell) if re.fullmatch(r"[a-z_]+", name)}
    of_service = set(inline(section.rpartition("|")[2]))
    modules = [path for package in CODE for path in (ROOT / package).rglob("*.py")]
    names = set[str]().union(*(logged_events(ast.parse(path.read_text(encoding="utf-8"))) for path in modules))
    assert {"part_written", "store_retry", "checkpoint_saved", "rerank", "watch_failed"} <= names  # of every kind
    assert names - table - of_service == set()
    assert table - names == set()


def test_commands_that_may_export_metrics_are_those_that_use_ray():
    section = (
        (ROOT / "docs/how-to/monitor.md").read_text(encoding="utf-8").split("## Which commands export metrics\n")[1]
    )
    rows = re.findall(r"^\| (`.+?) \|", section.split("\n## ")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {command for command in COMMANDS if "--cluster.address" in options_of(command)}


def test_pages_named_by_code_exist():
    named = [page for text in source_texts() for page in re.findall(r"docs/[\w/.-]+\.(?:md|jpg)", text)]
    assert named
    assert not [page for page in named if not (ROOT / page).is_file()]


def test_formats_are_those_of_their_owners():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| `(shan-[\w-]+/[\d.]+)`.*`([\w/]+\.py)` \|$", page, re.MULTILINE)
    assert len(rows) == 8
    for name, owner in rows:
        assert f'"{name}"' in (ROOT / owner).read_text(encoding="utf-8"), f"{owner} does not write {name}"


def test_messages_in_troubleshooting_are_those_of_the_code():
    texts = source_texts()
    rows = [line for line in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines() if "|" in line]
    quoted = [code for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[1])]
    messages = [code for code in quoted if " " in code and not code.startswith(("--", "python"))]
    assert len(messages) >= 15
    for message in set(messages) - FOREIGN_MESSAGES:
        assert any(message in text for text in texts), f"no message contains '{message}'"


def test_pages_name_commits_that_exist():
    if subprocess.run(["git", "cat-file", "-e", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a git checkout")
    if subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.startswith("true"):
        pytest.skip("a shallow clone has no history")
    _, *sections = re.split(r"^##+ ", (ROOT / "docs/results.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections
    for section in sections:
        assert COMMIT.search(section), f"section '{section.splitlines()[0]}' names no commit"
    pages = [ROOT / "README.md", ROOT / "tests/README.md", *(ROOT / "docs").rglob("*.md")]
    for commit in {found for page in pages for found in COMMIT.findall(page.read_text(encoding="utf-8"))}:
        in_history = ["git", "merge-base", "--is-ancestor", commit, "HEAD"]
        known = subprocess.run(in_history, cwd=ROOT, capture_output=True, check=False)
        assert not known.returncode, f"{commit} is not in the history of this commit"


def test_checks_find_what_they_look_for(tmp_path):
    page = "`make no-such` `train.no_such`\n```\npython -m jobs.train --no-such 1 \\\n  --train.epochs=2\n```\n"
    assert list(documented_commands(page)) == [("train", ["--no-such", "1", "--train.epochs=2"])]
    assert "--train.epochs" in options_of("train")
    assert "--no-such" not in options_of("train")
    assert inline(page) == ["make no-such", "train.no_such"]
