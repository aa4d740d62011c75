"""The secret of a user's home: 32 random bytes, made once, from which the codes in tags come."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from rlaif.errors import StoreError

_BYTES = 32


def load_secret(home: Path) -> bytes:
    """The 32 bytes in the file `secret` of `home`, made if there is none; only its owner reads it.

    Of several processes that make it at once one wins, and all return the winner's.

    Raises:
        StoreError: the file cannot be read or made, or is not 32 bytes.
    """
    path = home / "secret"
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise StoreError(f"the secret {path} cannot be kept: {error.strerror}") from error
    if len(secret) != _BYTES:
        raise StoreError(
            f"the secret {path} has {len(secret)} bytes, not {_BYTES}: remove it, and the replies "
            "of judges are asked for again"
        )
    return secret


def _make(path: Path) -> None:
    """Write a new secret to `path` unless somebody else was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # a link appears whole or not at all, and never in the place of another
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
