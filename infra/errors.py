"""The one error type that is shown to a user as a single line."""


class UserError(ValueError):
    """Something a user can mend. The message is one line: the thing that is wrong, then the fix.

    Jobs print it without a traceback and exit with code 2; everything else is a defect and keeps its traceback.
    """
