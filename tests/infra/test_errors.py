from copy import copy

import pytest

from infra.errors import LONGEST, UserError


@pytest.mark.parametrize("quoted", ["", "two\nlines\r\n\tand more\u2028", "x" * 70_000])
def test_a_message_is_one_line_with_its_beginning_and_its_fix(quoted: str):
    error = UserError(f"file.tsv: bad value {quoted!s}; mend it")
    for told in (error, copy(error)):  # made anew from its arguments, as one of a worker is
        assert len(str(told).splitlines()) == 1
        assert len(str(told)) <= LONGEST + len(" ... ")
        assert str(told).startswith("file.tsv: bad value")
        assert str(told).endswith("; mend it")
