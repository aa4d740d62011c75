"""Browsers that showed a token once: a signed cookie, and a code that only our own pages know."""

from __future__ import annotations

import hmac
import re
import time
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

from rlaif.service.accounts import Caller, TokenBook

COOKIE = "rlaif_session"
LONGEST_S = 7 * 86400
_COOKIE = re.compile(r"(\d{1,9})\.(\d{10,12})\.([0-9a-f]{64})")


class Sessions:
    """Signs and reads cookies. One is worth as much as its token, as long as that lives.

    Args:
        secret: The secret of the service, 32 bytes.
        tokens: Who is known.
    """

    def __init__(self, secret: bytes, tokens: TokenBook) -> None:
        self._secret = secret
        self._tokens = tokens

    def begin(self, caller: Caller) -> str:
        """The value of the cookie of a browser that showed the caller's token."""
        told = f"{caller.id}.{int(time.time()) + LONGEST_S}"
        return f"{told}.{self._signed('session', told)}"

    def caller(self, header: str) -> tuple[Caller, str] | None:
        """Whose browser sends the header `Cookie`, and the value of its cookie; None for nobody."""
        try:
            found = SimpleCookie(header).get(COOKIE)
        except CookieError:
            return None
        match = _COOKIE.fullmatch(found.value) if found else None
        if match is None or found is None:
            return None
        told = f"{match[1]}.{match[2]}"
        if not hmac.compare_digest(self._signed("session", told), match[3]):
            return None
        caller = self._tokens.numbered(int(match[1])) if int(match[2]) > time.time() else None
        return None if caller is None else (caller, found.value)

    def code(self, cookie: str) -> str:
        """What the pages of a session send along with every change."""
        return self._signed("page", cookie)

    def _signed(self, what: str, text: str) -> str:
        return hmac.new(self._secret, f"{what}:{text}".encode(), sha256).hexdigest()
