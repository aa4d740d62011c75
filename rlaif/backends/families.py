"""What a model accepts: the shipped table of families, and what refusals teach beside it.

    family = family_of("openai", "gpt-5-mini")
    family.takes("temperature", Sampling())     # False: it always reasons
    family.most_output(Sampling(reasoning="low"))

Models of one provider differ in the parameters that they take, and refuse a request that holds
another. The table is dated (`table_date`) and soon out of date; `Lessons` corrects it while a run
goes on.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from rlaif.errors import ConfigError
from rlaif.specs.shipped import shipped_dir
from rlaif.types import Sampling

Api = Literal["chat", "responses", "messages"]
Acceptance = Literal["always", "never", "unless_reasoning"]
Thinking = Literal["none", "adaptive", "budget", "both"]

_LEAST_BUDGET = 1024
"""Tokens: Anthropic's API takes no smaller budget for thinking."""


@dataclass(frozen=True, slots=True)
class Family:
    """What a family of models accepts."""

    pattern: str
    """Regular expression for the whole name of a model, or for the name up to a hyphen."""
    api: Api = "chat"
    sampling: Acceptance = "always"
    """Of `temperature` and `top_p`."""
    logprobs: Acceptance = "always"
    structured: bool = True
    """Whether replies can be held to a JSON schema."""
    reasoning: tuple[str, ...] | None = None
    """Words for how much it thinks; empty for a model that never does, `None` where not known."""
    default: str = "none"
    """How much it thinks when it is not told."""
    thinking: Thinking = "none"
    """How Claude is told how much to think: by a word, by a number of tokens, or either."""
    cache_min: int = 1024
    """Tokens below which the provider does not cache a prompt."""
    cache_marks: bool = False
    """Whether the end of the shared part of a prompt is marked in it."""
    refused: frozenset[str] = field(default=frozenset())
    """Features that the provider turned out not to take."""

    def takes(self, feature: str, sampling: Sampling) -> bool:
        """Whether a request with `sampling` may hold `feature`.

        Args:
            feature: `temperature`, `top_p`, `seed`, `logprobs`, `json_schema` or `cache_marks`.
            sampling: Some features are taken only by a model that does not reason now.
        """
        if feature in self.refused:
            return False
        rules: dict[str, Acceptance | bool] = {
            "temperature": self.sampling,
            "top_p": self.sampling,
            "logprobs": self.logprobs,
            "json_schema": self.structured,
            "cache_marks": self.cache_marks,
        }
        rule = rules.get(feature, True)
        return rule in {True, "always"} or (
            rule == "unless_reasoning" and not self.reasons(sampling)
        )

    def reasons(self, sampling: Sampling) -> bool:
        """Whether the model thinks before it replies."""
        return (self.effort(sampling) or self.default) not in {"none", "0"}

    def effort(self, sampling: Sampling) -> str | None:
        """The word, or the number of tokens, to send; `None` leaves it to the provider."""
        if self.reasoning == () or sampling.reasoning is None:
            return None
        return sampling.reasoning

    def room(self, sampling: Sampling) -> int:
        """Tokens for thinking beside those of the reply, as providers count both together."""
        wanted = self.effort(sampling) or self.default
        if wanted.isdigit():
            return max(_LEAST_BUDGET, int(wanted)) if int(wanted) else 0
        rooms = thinking_room()
        # a word that is not in the table: room for much thinking, as too little cuts the reply off
        return rooms.get(wanted, rooms["high"])

    def most_output(self, sampling: Sampling) -> int:
        """Tokens that a call may be charged for at most: the reply's and those of thinking."""
        return sampling.max_tokens + self.room(sampling)

    @property
    def max_tokens_name(self) -> str:
        """What chat completions call the most tokens of a reply."""
        newer = "max_completion_tokens"
        return "max_tokens" if newer in self.refused else newer

    def without(self, feature: str) -> Family:
        """This family as it is when it does not take `feature`."""
        return replace(self, refused=self.refused | {feature})


@cache
def _table() -> Mapping[str, Any]:
    import yaml

    text = (shipped_dir("families") / "families.yaml").read_text(encoding="utf-8")
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table


def table_date() -> datetime.date:
    """The day on which the table was last checked."""
    day: datetime.date = _table()["date"]
    return day


def thinking_room() -> Mapping[str, int]:
    """Tokens kept for thinking, by the word for how much."""
    room: Mapping[str, int] = _table()["room"]
    return room


@cache
def families(provider: str) -> tuple[Family, ...]:
    """The families of `provider`, the last of which fits any name; none for other providers."""
    every = {"api": "messages", "cache_marks": True} if provider == "anthropic" else {}
    rows = [{**every, **row} for row in _table().get(provider, ())]
    return tuple(Family(**{k: _frozen(v) for k, v in row.items()}) for row in rows)


@cache
def family_of(provider: str, name: str) -> Family:
    """What the model `name` of `provider` accepts, as far as the table knows.

    Raises:
        ConfigError: the table has no such provider.
    """
    for family in families(provider):
        if re.fullmatch(f"(?:{family.pattern})(-.*)?", name):
            return family
    raise ConfigError(f"no families of models are known for {provider}")


def most_output_tokens(address: str, sampling: Sampling) -> int:
    """Tokens that a call to the model at `address` (`provider/name`) may be charged for at most."""
    provider, _, name = address.partition("/")
    if not families(provider):
        return sampling.max_tokens
    return family_of(provider, name).most_output(sampling)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Lessons:
    """What a provider's refusals taught about one model, over what the table says.

    Args:
        provider: As the table names it.
        name: The model.
        words: By the words of a refusal, the feature that it is about. The first that fits counts:
            of `top_p` and `temperature`, refused together, the one that comes first is given up.
    """

    def __init__(self, provider: str, name: str, words: Mapping[str, str]) -> None:
        self.family = family_of(provider, name)
        """What the model accepts, as far as is known now."""
        self.corrections: list[str] = []
        """What was learned, in words for the user."""
        self._name = name
        self._words = words

    def learn(self, sent: Family, said: str) -> bool:
        """Whether a refusal of a request built for `sent`, in its own words, is now heeded."""
        if not NOT_TAKEN.search(said):
            return False
        for word, feature in self._words.items():
            if feature in sent.refused or not names(word, said):
                continue
            self._take(self.family.without(feature), word)
            return True
        return False

    def switch(self, sent: Family, api: Api) -> bool:
        """Whether a request built for `sent` is to be asked again through `api`, as all later ones.

        An API that was left is not gone back to.
        """
        left = self.family.without(f"{sent.api} API")
        if sent.api == api or f"{api} API" in left.refused:
            return False
        self._take(replace(left, api=api), f"the {sent.api} API")
        return True

    def _take(self, family: Family, what: str) -> None:
        """Note a lesson once, however many calls in flight meet the same refusal."""
        if family != self.family:
            self.corrections.append(f"{self._name} does not take {what}: not sent from now on")
        self.family = family


NOT_TAKEN = re.compile(
    r"unsupported|not support|n.t support|deprecated|cannot both|not allowed|not permitted"
    r"|unrecognized|unknown (?:parameter|argument|field)|extra inputs",
    re.IGNORECASE,
)
"""How providers say that a parameter itself is wrong, and not its value."""


def names(parameter: str, text: str) -> bool:
    """Whether `text` names `parameter` as a word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(parameter)}(?![\w-])", text) is not None
