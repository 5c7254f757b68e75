"""Types and messages of the errors that commands print as one line."""

from copy import copy

import pytest

from infra.errors import MAX_MESSAGE_CHARS, StorageError, UserError


@pytest.mark.parametrize("quoted", ["", "two\nlines\r\n\tand more\u2028", "x" * 70_000])
def test_long_message_keeps_start_and_fix_in_one_line(quoted: str):
    error = UserError(f"file.tsv: bad value {quoted!s}; fix it")
    for each in (error, copy(error)):  # a copy is built from the arguments, as pickle does for errors of workers
        assert len(str(each).splitlines()) == 1
        assert len(str(each)) <= MAX_MESSAGE_CHARS + len(" ... ")
        assert str(each).startswith("file.tsv: bad value")
        assert str(each).endswith("; fix it")


def test_no_handler_of_unparsable_data_catches_a_user_error():
    """What handlers of corrupt objects make of an expired token: the tests that use `tests.support.bad_stores`."""
    assert not issubclass(UserError, ValueError | OSError | TypeError | LookupError)
    assert not issubclass(StorageError, ValueError)
