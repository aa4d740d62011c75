"""The same content, dressed up: deterministic changes that should not win a response anything.

texts = load_texts()
padded(texts, "It boils at 100 degrees.")          # the response among empty sentences
as_list("One. Two.", texts.heading)                # the same sentences as a markdown list
repetitive_list(texts, "One. Two.")                # the list, and all of it said again
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rlaif.specs.shipped import shipped_dir
from rlaif.specs.yamlfile import read_yaml

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]”]*\s+(?=[\"'(\[“]?[^\W_a-z])|(?<=[。！？])|\n+")
_STRUCTURED = re.compile(r"^(?: {4}|\t|\s*(?:[-*+#>|]|\d+[.)]|```))", re.MULTILINE)
_LEAST_PADDING_WORDS = 30


@dataclass(frozen=True, slots=True)
class Texts:
    """What an audit adds to responses, or puts in their place."""

    padding: tuple[str, ...]
    """Sentences that say nothing."""
    restating: tuple[str, ...]
    """How to begin saying the same again."""
    heading: str
    null_model: Mapping[str, str]
    """Constant texts that imitate the judge's prompt, by name."""
    injection: Mapping[str, str]
    """Empty phrases that carry instructions to the judge, by name."""


def load_texts() -> Texts:
    """The texts that come with rlaif.

    Raises:
        ConfigError: the installation lacks them.
    """
    data = read_yaml(shipped_dir("audit") / "texts.yaml").data
    phrase = data["empty_phrase"]
    return Texts(
        padding=tuple(data["padding"]),
        restating=tuple(data["restating"]),
        heading=data["heading"],
        null_model=dict(data["null_model"]),
        injection={k: v.replace("{empty_phrase}", phrase) for k, v in data["injection"].items()},
    )


def sentences(text: str) -> list[str]:
    """The sentences and lines of `text`, without the space between them."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def padded(texts: Texts, text: str) -> str:
    """`text` among sentences that say nothing, about twice as long where there are enough."""
    wanted = max(_LEAST_PADDING_WORDS, len(text.split()))
    before, after = [texts.padding[0]], list[str]()
    size = len(texts.padding[0].split())
    for sentence in texts.padding[1:]:
        if size >= wanted:
            break
        (before if len(before) < 2 else after).append(sentence)
        size += len(sentence.split())
    parts = (" ".join(before), text, " ".join(after))
    return "\n\n".join(part for part in parts if part)


def as_list(text: str, heading: str) -> str | None:
    """The sentences of `text` as a markdown list; None where it has a structure of its own."""
    if _STRUCTURED.search(text) or not (found := sentences(text)):
        return None
    return f"**{heading}**\n\n" + "\n".join(f"- {sentence}" for sentence in found)


def repetitive_list(texts: Texts, text: str) -> str | None:
    """`text` as a list that says every item again; None where it has a structure of its own.

    Reference:
        Zheng et al. 2023 (arXiv 2306.05685), section 3.3: the repetitive-list attack. Here the
        items are repeated behind an opening phrase instead of being rephrased by a model.
    """
    if _STRUCTURED.search(text) or not (found := sentences(text)):
        return None
    rounds = texts.restating if len(found) < 3 else texts.restating[:1]
    items = [opening + sentence for opening in ("", *rounds) for sentence in found]
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
