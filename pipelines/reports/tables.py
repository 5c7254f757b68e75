"""Tables and pages of all reports: one table writer for Markdown and HTML, one page style."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import UserError
from infra.storage.disk import replace_file
from infra.storage.open import require_writable_file

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
"""The stylesheet of every HTML page."""


class Html(str):
    """A table cell that is HTML already, so `Table.html` does not escape it."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of text cells below a header; the first column names the rows."""

    title: str
    """Heading above the table; empty for none."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Returns a Markdown table below its title in bold."""
        title = [f"**{self.title}**", ""] if self.title else []
        lines = [*title, _markdown_row(self.header), _markdown_row(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_markdown_row, self.rows)])

    def html(self) -> str:
        """Returns an HTML table below its title as a heading."""
        title = f"<h2>{html.escape(self.title)}</h2>" if self.title else ""
        body = "".join(_html_row("td", row) for row in self.rows)
        return f"{title}<table>{_html_row('th', self.header)}{body}</table>"


def markdown(tables: Sequence[Table]) -> str:
    """Returns the tables as Markdown, one blank line between them."""
    return "\n\n".join(table.markdown() for table in tables)


def page(title: str, body: str) -> str:
    """Returns a complete HTML page that needs no other file. `title` is text, `body` is HTML."""
    title = html.escape(title)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>\n{body}\n"
    )


def write_report(path: Path, title: str, tables: Sequence[Table]) -> None:
    """Writes the tables as a page if `path` ends in .html, otherwise as Markdown."""
    if path.suffix == ".html":
        text = page(title, "".join(table.html() for table in tables))
    else:
        text = f"# {title}\n\n{markdown(tables)}\n"
    replace_file(path, text.encode())


def check_report(path: Path | None) -> None:
    """Raises UserError if `--report` has another suffix than .md and .html, or a parent that cannot be a folder."""
    if path is None:
        return
    if path.suffix not in (".md", ".html"):
        raise UserError(f"--report {path}: unknown format; end the name in .md (Markdown) or .html (a page)")
    require_writable_file(path, "--report")


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    content = (cell if isinstance(cell, Html) else html.escape(cell) for cell in cells)
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in content) + "</tr>"
