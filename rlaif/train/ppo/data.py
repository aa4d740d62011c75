"""Prompts for PPO: rows with `prompt` (text or messages) and any columns for the rewards."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlaif.canonical import canonical_json
from rlaif.errors import ConfigError, DataError, SpecError


class PromptRows:
    """Rows whose prompt fits, in a new order each pass, the same for the same seed.

    Args:
        rows: Indexable rows with a `prompt`: a `datasets.Dataset` or a list of mappings.
        tokenizer: Of the policy; messages are written in its chat template.
        most: Most tokens of a prompt.
        seed: Of the order.

    Raises:
        SpecError: there is no `prompt`.
        ConfigError: a prompt is messages, and the tokenizer does not know how to write them.
        DataError: no prompt fits.
    """

    def __init__(self, rows: Any, tokenizer: Any, most: int, seed: int) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._seed = seed
        whole = hashlib.sha256()
        fits = array("q")
        for place in range(len(rows)):
            if 0 < len(tokens := self.tokens(place)) <= most:
                fits.append(place)
                whole.update(canonical_json(tokens).encode())
        self.kept = fits
        self.left_out = len(rows) - len(fits)
        """How many have no token, or too many."""
        self.digest = whole.hexdigest()
        """SHA-256 of the prompts that fit, in their order."""
        if not fits:
            raise DataError(f"none of {len(rows)} prompts has between 1 and {most} tokens")

    def tokens(self, place: int) -> list[int]:
        """The token ids of a row's prompt, ready for a response."""
        row = self._rows[place]
        if "prompt" not in row:
            raise SpecError("no such column", field="prompt", line=place + 1)
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            if not self._tokenizer.chat_template:
                raise ConfigError("prompts are messages, and the tokenizer has no chat template")
            prompt = self._tokenizer.apply_chat_template(
                list(prompt), tokenize=False, add_generation_prompt=True
            )
            return list(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return list(self._tokenizer(prompt)["input_ids"])

    def batch(self, update: int, size: int, each: int = 1) -> list[int]:
        """The places of the rows of an update: passes one after another, each in its own order.

        Args:
            update: Its number.
            size: How many places.
            each: How often in a row a place comes.
        """
        first = update * size // each
        return [self._at(first + i // each) for i in range(size)]

    def _at(self, ordinal: int) -> int:
        turn, place = divmod(ordinal, len(self.kept))
        return self.kept[self._order(turn)[place]]

    def _order(self, turn: int) -> Sequence[int]:
        if getattr(self, "_turn", None) != turn:
            import numpy as np

            self._turn = turn
            order = np.random.default_rng((self._seed, turn)).permutation(len(self.kept))
            self._shuffled: list[int] = order.tolist()
        return self._shuffled

    def columns(self, places: Sequence[int]) -> tuple[list[Any], dict[str, list[Any]]]:
        """The prompts at `places`, and every other column for the reward functions."""
        picked: list[Mapping[str, Any]] = [self._rows[place] for place in places]
        names = [name for name in picked[0] if name != "prompt"]
        return [r["prompt"] for r in picked], {n: [r.get(n) for r in picked] for n in names}

    def completion(self, place: int, text: str) -> Any:
        """A response as the reward functions of TRL get it: text, or messages for messages."""
        if isinstance(self._rows[place]["prompt"], str):
            return text
        return [{"role": "assistant", "content": text}]


def chunks(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """`places` in groups of `size`, the last one smaller if need be."""
    for start in range(0, len(places), size):
        yield places[start : start + size]
