"""The error types that a command prints as one line, without a traceback."""

MAX_MESSAGE_CHARS = 1000
"""Longest message. A message may quote a corrupt file, whose content has any length."""


class UserError(ValueError):
    """An error that the user can fix. The message is one line: what is wrong, then the fix.

    Commands print it without a traceback and exit with code 2. Any other exception is a defect and keeps its traceback.
    """

    def __str__(self) -> str:
        """Joins the lines of the message, and cuts the middle out of one that is too long: the fix comes last."""
        line = " ".join(super().__str__().split())
        half = MAX_MESSAGE_CHARS // 2
        return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:half]} ... {line[-half:]}"


class LeaseLostError(UserError):
    """Another process acquired the lease of this work. The holder of the lost lease must stop and write nothing."""
