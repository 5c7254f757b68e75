"""Checks at the start of work that a store has conditional writes, without which two jobs overwrite each other."""

import secrets
from contextlib import suppress

from infra.errors import UserError
from infra.storage.base import Store

_FIX = "use a store that supports them (such as AWS S3 or SeaweedFS), without a proxy that drops the header"


def require_conditional_writes(store: Store) -> None:
    """Puts an object into a bucket twice and deletes it. Folders are not checked: they depend on no server.

    Raises UserError if the store ignores or refuses the condition, and as every write if it cannot be written at all.
    """
    if store.uri.startswith("/"):
        return
    name = f"conditional-write-{secrets.token_hex(8)}"
    try:
        if not _put(store, name):
            store.replace(name, b"probe")  # raises if the store refuses every write
            raise UserError(f"{store.uri}: the store refuses conditional writes (`If-None-Match: *`); {_FIX}")
        if store.put_if_absent(name, b"probe"):
            raise UserError(f"{store.uri}: the store ignores the condition of writes (`If-None-Match: *`); {_FIX}")
    finally:
        with suppress(OSError, UserError):  # without permission to delete, the object stays
            store.delete(name)


def _put(store: Store, name: str) -> bool:
    """Returns whether the store took a conditional write. Its errors are those of the write without a condition.

    A proxy that drops the signed header gets an answer about the signature, and a policy may forbid the condition.
    """
    try:
        return store.put_if_absent(name, b"probe")
    except (OSError, UserError):
        return False
