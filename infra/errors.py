"""The one error type that is shown to a user as a single line."""

LONGEST = 1000
"""Characters of a message; what it quotes of a damaged file may have any length."""


class UserError(ValueError):
    """Something a user can mend. The message is one line: the thing that is wrong, then the fix.

    Jobs print it without a traceback and exit with code 2; everything else is a defect and keeps its traceback.
    """

    def __str__(self) -> str:
        """Line breaks become spaces, and of a message that is too long the middle is left out: the fix comes last."""
        line = " ".join(super().__str__().split())
        return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


class TakenOverError(UserError):
    """Another process goes on with this work and its run; this one leaves them alone."""
