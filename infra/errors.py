"""The error types that a command prints as one line, without a traceback."""

MAX_MESSAGE_CHARS = 1000
"""Longest message. A message may quote a corrupt file, whose content has any length."""


class UserError(Exception):
    """An error that the user can fix. The message is one line: what is wrong, then the fix.

    Commands print it without a traceback and exit with code 2. Any other exception is a defect and keeps its traceback.
    It is not a ValueError, so that a handler for unparsable data does not take an expired token for corrupt data.
    """

    def __str__(self) -> str:
        """Joins the lines of the message, and cuts the middle out of one that is too long: the fix comes last."""
        line = " ".join(super().__str__().split())
        half = MAX_MESSAGE_CHARS // 2
        return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:half]} ... {line[-half:]}"


class LocationError(UserError):
    """A bucket or object that does not exist or is forbidden. Others of the same store may be usable."""


class StoreAccessError(UserError):
    """A store that rejects the credentials or has no valid certificate: none of its objects can be read."""


class CorruptDataError(UserError):
    """A stored object that was read, or looked for, and is corrupt or lost.

    An outage or a refusal of the store is never this type: the object may be intact.
    """


class StorageError(OSError):
    """A store or disk that fails although the operation was retried. The message is one line and names the object.

    Commands print it as they print a UserError: the fix is a store that works. To callers it is an OSError.
    """


class AccessDeniedError(StorageError):
    """A path that this user has no permission for. Unlike a disk that fails, it stays so until somebody changes it."""


class LeaseLostError(UserError):
    """Another process acquired the lease of this work. The holder of the lost lease must stop and write nothing."""
