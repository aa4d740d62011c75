"""What a call costs: prices by model, from the dated file that comes with rlaif and from yours.

    prices = load_prices(Path("prices.yaml"))                  # yours over the shipped ones
    prices.cost_usd("openai/gpt-5.1", Usage(input=1000, output=200))    # 0.00325

A file of prices, in US dollars per million tokens or per call:

    date: 2026-11-18
    models:
      openai/gpt-5.1: {input: 1.25, cached_input: 0.125, output: 10, batch_discount: 0.5}
      server/*: {per_call_usd: 0.001}
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rlaif.errors import suggestion
from rlaif.specs.describe import describe
from rlaif.specs.shipped import shipped_dir
from rlaif.specs.yamlfile import YamlFile, read_yaml
from rlaif.types import Usage

FREE = ("local/", "reward/", "scripted/")
"""Beginnings of the addresses that nobody sends a bill for."""

_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
"""The end of a model id that names a snapshot of a model, and not another model."""
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """How much more a call with a long prompt costs; it holds for the whole call."""

    over: int
    """Tokens of input above which it holds."""
    input_times: float
    """For all input, cached or not."""
    output_times: float


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model, in US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None
    """Input that the provider read from its prompt cache; the same as `input` where None."""
    cache_write: float | None = None
    """Input that it wrote to its prompt cache. `Usage` does not tell such tokens from other input,
    so only `most_usd` counts them."""
    per_call_usd: float = 0.0
    """US dollars for a call, whatever its length."""
    batch_discount: float = 0.0
    """Share of the price that a batch API takes off, 0..1."""
    long_prompt: LongPrompt | None = None
    date: str | None = None
    """When it was last compared with the provider's, as YYYY-MM-DD."""

    def cost_usd(self, usage: Usage, *, batch: bool = False) -> float:
        """US dollars for a call that used `usage`, cached input and the batch discount counted."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = usage.input - usage.cached_input
        read = fresh * self.input + usage.cached_input * cached
        return self._total(usage.input, read, usage.output * self.output, batch)

    def most_usd(self, input_tokens: int, output_tokens: int, *, batch: bool = False) -> float:
        """The most that a call with so many tokens can cost, in US dollars.

        Nothing is cached, and all of it is written to the cache where that costs more.
        """
        rate = max(self.input, self.cache_write or 0.0)
        return self._total(input_tokens, input_tokens * rate, output_tokens * self.output, batch)

    def _total(self, tokens: int, read: float, written: float, batch: bool) -> float:
        long = self.long_prompt
        if long is not None and tokens > long.over:
            read *= long.input_times
            written *= long.output_times
        total = (read + written) / _MILLION + self.per_call_usd
        return total * (1.0 - self.batch_discount) if batch else total


@dataclass(frozen=True, slots=True)
class PriceFile:
    """The prices of one file."""

    models: Mapping[str, Price]
    """By address, or by a pattern of addresses with `*`."""
    date: str | None = None
    path: str | None = None

    def find(self, model: str) -> Price | None:
        """The price of an address: its own, else that of its undated name, else of a pattern.

        Of the patterns that fit, the longest counts.
        """
        for name in (model, _DATED.sub("", model)):
            if (price := self.models.get(name)) is not None:
                return price
        fitting = [name for name in self.models if "*" in name and fnmatchcase(model, name)]
        return self.models[max(fitting, key=len)] if fitting else None


class PriceTable:
    """Prices of several files; the first that knows a model counts."""

    def __init__(self, files: Sequence[PriceFile]) -> None:
        self.files = tuple(files)
        self._found: dict[str, Price | None] = {}

    def price(self, model: str) -> Price | None:
        """The price of the model at an address, or None where nobody knows it.

        A model that runs here costs nothing, unless a file gives it a price.
        """
        if model not in self._found:
            prices = (file.find(model) for file in self.files)
            price = next((p for p in prices if p is not None), None)
            self._found[model] = Price() if price is None and model.startswith(FREE) else price
        return self._found[model]

    def cost_usd(self, model: str, usage: Usage, batch: bool = False) -> float | None:
        """US dollars for a call to `model` that used `usage`; None where its price is not known."""
        price = self.price(model)
        return None if price is None else price.cost_usd(usage, batch=batch)


def load_prices(*paths: Path) -> PriceTable:
    """The prices in `paths`, the first counting most, over those that come with rlaif.

    Raises:
        SpecError: a file is missing or malformed: names its line and field.
        ConfigError: the installation lacks the shipped prices.
    """
    return PriceTable([read_price_file(path) for path in (*paths, shipped_prices())])


def shipped_prices() -> Path:
    """Where the prices that come with rlaif are."""
    return shipped_dir("prices") / "prices.yaml"


def read_price_file(path: Path) -> PriceFile:
    """The prices in one file.

    Raises:
        SpecError: it is missing or malformed: names its line and field.
    """
    document = read_yaml(path)
    _check_keys(document, document.data, ("date", "source", "models"))
    models = document.data.get("models")
    if not isinstance(models, Mapping) or not models:
        message = f"should be a mapping of addresses to prices, found {describe(models)}"
        raise document.error(message, "models")
    return PriceFile(
        {str(name): _price(document, name) for name in models},
        _date(document, "date"),
        document.path,
    )


_PRICE_KEYS = tuple(f.name for f in fields(Price))
_LONG_KEYS = tuple(f.name for f in fields(LongPrompt))


def _price(document: YamlFile, name: Any) -> Price:
    place = ("models", name)
    if "/" not in str(name):
        raise document.error("should be an address, provider/name", *place)
    given = document.data["models"][name]
    if not isinstance(given, Mapping):
        raise document.error(f"should be {{input, output}}, found {describe(given)}", *place)
    _check_keys(document, given, _PRICE_KEYS, *place)
    if "per_call_usd" not in given:
        for needed in ("input", "output"):
            if needed not in given:
                message = f"lacks {needed}, US dollars per million tokens (or give per_call_usd)"
                raise document.error(message, *place)
    numbers = {
        key: _number(document, given[key], *place, key, most=1 if key == "batch_discount" else None)
        for key in given
        if key not in ("long_prompt", "date")
    }
    return Price(
        **numbers,
        long_prompt=_long(document, given["long_prompt"], place)
        if "long_prompt" in given
        else None,
        date=_date(document, *place, "date") or _date(document, "date"),
    )


def _long(document: YamlFile, given: Any, place: tuple[Any, ...]) -> LongPrompt:
    place = (*place, "long_prompt")
    if not isinstance(given, Mapping):
        wanted = ", ".join(_LONG_KEYS)
        raise document.error(f"should be {{{wanted}}}, found {describe(given)}", *place)
    _check_keys(document, given, _LONG_KEYS, *place)
    for key in _LONG_KEYS:
        if key not in given:
            raise document.error(f"lacks {key}", *place)
    numbers = {key: _number(document, given[key], *place, key) for key in _LONG_KEYS}
    return LongPrompt(int(numbers["over"]), numbers["input_times"], numbers["output_times"])


def _number(document: YamlFile, value: Any, *place: Any, most: float | None = None) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (most and value > most):
        wanted = f"from 0 to {most}" if most else "of 0 or more"
        raise document.error(f"should be a number {wanted}, found {describe(value)}", *place)
    return float(value)


def _date(document: YamlFile, *place: Any) -> str | None:
    value: Any = document.data
    for key in place:
        value = value.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime.date):
        raise document.error(f"should be a date, YYYY-MM-DD, found {describe(value)}", *place)
    return value.isoformat()[:10]


def _check_keys(
    document: YamlFile, given: Mapping[Any, Any], known: tuple[str, ...], *place: Any
) -> None:
    for key in given:
        if key not in known:
            raise document.error(
                f"is not a known field; {suggestion(str(key), known)}", *place, key
            )
