"""Parameters that a server turns out not to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlaif.backends._http import error_text
from rlaif.backends.families import NOT_TAKEN, names


class Corrections:
    """Which optional parameters a model turned out not to take.

    Models differ in what they accept and change from version to version, so what a table of
    families does not foresee is learned from the refusal, once for all later calls.

    Args:
        optional: Parameters that may be left out.
        renames: Parameters that have another name for the same thing.
    """

    def __init__(self, optional: frozenset[str], renames: Mapping[str, str] | None = None) -> None:
        self._optional = optional
        self._renames = renames or {}
        self._dropped: set[str] = set()
        self._renamed: dict[str, str] = {}

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """`body` as the model takes it, as far as is known."""
        kept = {self._renamed.get(k, k): v for k, v in body.items() if k not in self._dropped}
        if "logprobs" not in kept:
            kept.pop("top_logprobs", None)
        return kept

    def learn(self, sent: Mapping[str, Any], status: int, answer: str) -> bool:
        """Whether the refusal named a parameter of `sent` that `apply` will now change."""
        if status not in {400, 403, 422}:
            return False
        said = error_text(answer)
        if not NOT_TAKEN.search(said):
            return False
        for name, other in self._renames.items():
            if name in sent and names(name, said) and name not in self._renamed.values():
                self._renamed[name] = other
                return True
        # backwards, so that of `temperature` and `top_p`, refused together, the first one stays
        for name in sorted(self._optional & sent.keys(), reverse=True):
            if names(name, said):
                self._dropped.add(name)
                return True
        return False
