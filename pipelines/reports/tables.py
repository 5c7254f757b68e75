"""Tables of a report, written as Markdown or as a page of HTML."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import UserError
from infra.storage.open import require_folder

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
"""Of all pages of the project."""


@dataclass(frozen=True)
class Table:
    """Cells of text below a header; the first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A Markdown table below its title."""
        lines = [f"**{self.title}**", "", _row(self.header), _row(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_row, self.rows)])

    def html(self) -> str:
        """The same as HTML."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<h2>{html.escape(self.title)}</h2><table><tr>{head}</tr>{body}</table>"


def markdown(tables: Sequence[Table]) -> str:
    """Returns the tables as Markdown, one blank line between them."""
    return "\n\n".join(table.markdown() for table in tables)


def page(title: str, body: str) -> str:
    """A whole page of HTML in the project's style."""
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"{head}<h1>{html.escape(title)}</h1>{body}\n"


def write_report(path: Path, title: str, tables: Sequence[Table]) -> None:
    """The tables in a file of the kind that its ending says (`check_report`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        text = page(title, "".join(table.html() for table in tables))
    else:
        text = f"# {title}\n\n{markdown(tables)}\n"
    path.write_text(text, encoding="utf-8")


def check_report(path: Path | None) -> None:
    """UserError, before any work, for a report of another kind than .md and .html or in a place that is none."""
    if path is None:
        return
    if path.suffix not in (".md", ".html"):
        raise UserError(f"--report {path}: a report is Markdown or a page; end it in .md or .html")
    require_folder(path.parent, "--report")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
