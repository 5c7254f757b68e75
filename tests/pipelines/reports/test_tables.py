"""Tables as Markdown and HTML, and reports in files."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.reports.tables import STYLE, Html, Table, check_report, markdown, page, write_report

TABLE = Table("a < b", ["name", "value"], [["x|y", "<1>"]])


def test_markdown_escapes_bars():
    assert TABLE.markdown() == "**a < b**\n\n| name | value |\n| --- | --- |\n| x\\|y | <1> |"
    assert Table("", ["a"], [["1"]]).markdown() == "| a |\n| --- |\n| 1 |"
    assert markdown([TABLE, TABLE]) == f"{TABLE.markdown()}\n\n{TABLE.markdown()}"


def test_html_escapes_text_but_not_html_cells():
    assert TABLE.html() == (
        "<h2>a &lt; b</h2><table><tr><th>name</th><th>value</th></tr><tr><td>x|y</td><td>&lt;1&gt;</td></tr></table>"
    )
    cell = Table("", ["a"], [[Html("<b>1</b>")]])
    assert cell.html() == "<table><tr><th>a</th></tr><tr><td><b>1</b></td></tr></table>"


def test_a_page_has_the_shared_style_and_an_escaped_title():
    text = page("<t>", "<p>body</p>")
    assert STYLE in text
    assert "<title>&lt;t&gt;</title>" in text
    assert "<h1>&lt;t&gt;</h1>\n<p>body</p>" in text


def test_a_report_is_markdown_or_a_page_by_its_suffix(tmp_path: Path):
    write_report(tmp_path / "out" / "r.md", "Title", [TABLE])
    write_report(tmp_path / "out" / "r.html", "Title", [TABLE])
    assert (tmp_path / "out" / "r.md").read_text() == f"# Title\n\n{TABLE.markdown()}\n"
    assert TABLE.html() in (tmp_path / "out" / "r.html").read_text()


def test_unknown_suffix_and_file_as_folder_are_errors(tmp_path: Path):
    check_report(None)
    check_report(tmp_path / "new" / "r.md")
    with pytest.raises(UserError, match=r"end the name in \.md \(Markdown\) or \.html"):
        check_report(tmp_path / "r.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--report"):
        check_report(tmp_path / "file" / "r.md")
