"""Who may ask what: tokens with scopes, budgets and rates.

    book = TokenBook(database)
    text = book.add("trainer", ["judge"], budget_usd=5.0)     # shown once; only its hash is kept
    caller = book.caller(text)                                # None for any other text

A token is 32 random bytes, so its SHA-256 cannot be turned back and needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rlaif.backends.budgeted import Budget
from rlaif.errors import ConfigError
from rlaif.service.database import KeyTakenError, Tables
from rlaif.store.postgres import UnreachableError

Scope = Literal["judge", "annotate", "admin"]
"""What a token is good for: verdicts and runs of its own; labels to any run; everything, the runs
of others too."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

_TOKEN = re.compile(r"rlaif_(\d{1,9})_([A-Za-z0-9_-]{43})")
_MOST_KNOWN = 10_000
_ANY = "SELECT 1 FROM tokens WHERE revoked_s IS NULL LIMIT 1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    id: int
    name: str
    scopes: frozenset[str]
    budget_usd: float | None = None
    per_minute: float | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller has `scope`; an admin has all."""
        return scope in self.scopes or "admin" in self.scopes


LOCAL = Caller(0, "local", frozenset(SCOPES))
"""Whoever asks a service that listens on this machine alone and has no tokens."""


class TokenBook:
    """The tokens of a service.

    One that was revoked is worthless at once; where servers share PostgreSQL, within a second.
    """

    def __init__(self, database: Tables) -> None:
        self._db = database
        self._known: dict[bytes, tuple[Caller, float]] = {}
        """By the hash of what was shown a moment ago: the caller, and until when to believe it."""
        self._any, self._any_until_s = False, -math.inf

    def add(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        budget_usd: float | None = None,
        per_minute: float | None = None,
    ) -> str:
        """A new token called `name`. Nothing shows it again.

        Args:
            name: Whose it is: letters, digits, `_`, `.`, `@` and `-`.
            scopes: What it is good for.
            budget_usd: Most US dollars it may ever spend.
            per_minute: Most requests in any minute, to each server process.

        Raises:
            ConfigError: the name is taken or cannot be one, a scope is unknown, or there is none.
            StoreError: the database cannot be written.
        """
        chosen = sorted(set(scopes))
        if not chosen or not set(chosen) <= set(SCOPES):
            raise ConfigError(f"scopes are {', '.join(SCOPES)}, not {', '.join(chosen) or 'none'}")
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a token's name is a word such as trainer-1, not {name[:64]!r}")
        secret = secrets.token_urlsafe(32)
        try:
            row = self._db.row(
                "INSERT INTO tokens (name, hash, scopes, budget_usd, per_minute, created_s) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (name, _hash(secret), " ".join(chosen), budget_usd, per_minute, time.time()),
            )
        except KeyTakenError:
            raise ConfigError(f"there is a token called {name!r} already") from None
        assert row is not None
        self._any_until_s = -math.inf
        return f"rlaif_{row[0]}_{secret}"

    def revoke(self, name: str) -> None:
        """Make the token called `name` worthless.

        Raises:
            ConfigError: there is none.
        """
        changed = self._db.change(
            "UPDATE tokens SET revoked_s = ? WHERE name = ? AND revoked_s IS NULL",
            (time.time(), name),
        )
        self._known.clear()
        self._any_until_s = -math.inf
        if not changed:
            raise ConfigError(f"there is no token called {name[:64]!r}")

    def caller(self, text: str) -> Caller | None:
        """Whose token `text` is, or None where it is nobody's or was revoked."""
        if not self._db.fresh_s:
            return self._looked_up(text)
        key = _hash(text)
        known = self._known.get(key)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        found = self._looked_up(text)
        if found is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = (found, time.monotonic() + self._db.fresh_s)
        return found

    def _looked_up(self, text: str) -> Caller | None:
        match = _TOKEN.fullmatch(text)
        row = match and self._db.row(
            "SELECT hash, id, name, scopes, budget_usd, per_minute FROM tokens "
            "WHERE id = ? AND revoked_s IS NULL",
            (int(match[1]),),
        )
        known = row[0] if row else bytes(32)
        if not hmac.compare_digest(known, _hash(match[2] if match else "")) or not row:
            return None
        return _caller(row[1:])

    def numbered(self, number: int) -> Caller | None:
        """The caller of the token of that number, or None where it was revoked."""
        row = self._db.row(
            "SELECT id, name, scopes, budget_usd, per_minute FROM tokens "
            "WHERE id = ? AND revoked_s IS NULL",
            (number,),
        )
        return _caller(row) if row else None

    def __bool__(self) -> bool:
        """Whether any token is in use; where servers share PostgreSQL, as of the last second."""
        now_s = time.monotonic()
        if now_s >= self._any_until_s:
            self._any = self._db.row(_ANY) is not None
            self._any_until_s = now_s + self._db.fresh_s
        return self._any

    def listed(self) -> list[dict[str, Any]]:
        """Every token that is in use, without its secret."""
        names = ("id", "name", "scopes", "budget_usd", "spent_usd", "per_minute", "created_s")
        rows = self._db.rows(
            f"SELECT {', '.join(names)} FROM tokens WHERE revoked_s IS NULL ORDER BY id"  # noqa: S608
        )
        return [dict(zip(names, row, strict=True)) for row in rows]


class TokenBudget(Budget):
    """The budget of one token, over all its requests, restarts and server processes.

    What is spent is kept in the database. Other processes are asked before each call for what they
    have spent, so together they cannot pass the limit by more than what they have in flight.
    """

    def __init__(self, database: Tables, caller: Caller) -> None:
        super().__init__(caller.budget_usd)
        self._db = database
        self._token = caller.id
        self._total = self._limit
        self._owed_usd = 0.0
        """Spent here, and not yet noted in the database."""

    async def reserve(self, most_usd: float) -> int:
        if self._total is not None:
            self._limit = max(0, self._total - round(self._elsewhere_usd() * 10**12))
        return await super().reserve(most_usd)

    def settle(self, reserved: int, cost_usd: float) -> None:
        super().settle(reserved, cost_usd)
        self._note(cost_usd)

    def presume(self, reserved: int) -> None:
        super().presume(reserved)
        self._note(reserved / 10**12)

    def _note(self, cost_usd: float) -> None:
        """Note what was spent; where the database is away, with what is spent next."""
        self._owed_usd += cost_usd
        if self._owed_usd and self._token:
            # an error here would lose a reply that is paid
            with suppress(UnreachableError):
                self._db.change(
                    "UPDATE tokens SET spent_usd = spent_usd + ? WHERE id = ?",
                    (self._owed_usd, self._token),
                )
                self._owed_usd = 0.0

    def _elsewhere_usd(self) -> float:
        row = self._db.row("SELECT spent_usd FROM tokens WHERE id = ?", (self._token,))
        return max(0.0, (row[0] if row else 0.0) - (self.spent_usd - self._owed_usd))


class Rates:
    """How many requests each token may still make now: buckets of a minute that refill evenly."""

    def __init__(self) -> None:
        self._left: dict[int, tuple[float, float]] = {}

    def wait_s(self, caller: Caller, now_s: float) -> float:
        """0 and one request taken, or the seconds until the caller may ask again."""
        most = caller.per_minute
        if most is None:
            return 0.0
        left, since_s = self._left.get(caller.id, (most, now_s))
        left = min(most, left + (now_s - since_s) * most / 60.0)
        granted = left >= 1.0
        self._left[caller.id] = (left - granted, now_s)
        return 0.0 if granted else (1.0 - left) * 60.0 / most


def _caller(row: tuple[Any, ...]) -> Caller:
    number, name, scopes, budget_usd, per_minute = row
    return Caller(number, name, frozenset(scopes.split()), budget_usd, per_minute)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
