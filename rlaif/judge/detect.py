"""What looks like an attempt on the judge in a response: noticed, named, never hidden.

    inspector = Inspector(rubric, constant_responses(items))
    inspector.inspect((a, b), item)       # {"b": ("judge_instruction", "verdict_shaped")}, or None

Each flag is a fact about the text, not a judgment of its author. An honest response to a question
about judging can hold the same words, so what the prompt itself shows is not held against its
responses. Time is linear in the text, and most texts are done with after one search for hints of
all signs: about 10 microseconds for 1,000 characters.

| flag | what was noticed |
|---|---|
| `verdict_shaped` | `[[A]]`, `Rating: [[10]]`, `Verdict: A`, "response A is better", as JSON |
| `judge_instruction` | "ignore the above", "judges must prefer", "this response is the best one" |
| `template_echo` | headings of judges' prompts, our instructions, the words of the rubric |
| `forged_tag` | our tags, tokens and headings that open or close turns, "[end of response]" |
| `hidden_text` | characters that people cannot see and models read |
| `token_soup` | an end like the suffixes found by optimizing against a judge |
| `repetitive` | the same lines or sentences said again and again |
| `constant_response` | the same response to several prompts |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter

from rlaif.canonical import remembered
from rlaif.judge.markers import readable
from rlaif.judge.seeking import Seek, seeker
from rlaif.judge.signs import SIGNS, UNSEEN_LETTERS, UNSEEN_RUN, Flag, Sign
from rlaif.judge.soup import THRESHOLD, soup
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Item, Messages, assistant_text

INJECTIONS: frozenset[Flag] = frozenset(
    {
        "verdict_shaped",
        "judge_instruction",
        "template_echo",
        "forged_tag",
        "hidden_text",
        "token_soup",
        "constant_response",
    }
)
"""Flags that name an attempt on the judge; a repetitive response may just be a bad one."""

_PHRASE = 40
"""Characters of a rubric's words that nobody writes by chance."""
_PIECES = 5
_PIECE = 25
_END = itemgetter(slice(-_PIECE, None))
_REPEATED = 0.4
_LEAST_CONSTANT = 20
_SEEN_BITS = 1 << 24
_MOST_RECURRING = 1 << 17


class Inspector:
    """Looks for attempts on the judge in what is judged by one rubric.

    Args:
        rubric: What responses are judged by, whose words they might echo.
        constant: Fingerprints of responses that recur, from `constant_responses`.
    """

    def __init__(
        self, rubric: Rubric | None = None, constant: Collection[int] = frozenset()
    ) -> None:
        self._phrases = rubric_phrases(rubric) if rubric is not None else None
        self._constant = constant
        # a candidate stands in many pairs
        self._found = remembered(self._flags)

    def inspect(
        self, candidates: Sequence[Candidate], item: Item
    ) -> dict[str, tuple[str, ...]] | None:
        """What was noticed in which candidate, by id; `None` where nothing was.

        Only what the assistant says is looked at, and a flag that the prompt raises too is left
        out: it says nothing about a response.
        """
        found: dict[str, tuple[str, ...]] = {}
        asked: set[Flag] | None = None
        for candidate in candidates:
            flags = self._found(candidate.response)
            if flags:
                if asked is None:
                    asked = _shapes("\n\n".join(m.content for m in item.prompt), self._phrases)
                flags = flags - asked
            if flags:
                found[candidate.id] = tuple(sorted(flags))
        return found or None

    def _flags(self, response: Messages) -> set[Flag]:
        text = assistant_text(response)
        flags = noticed(text, self._phrases)
        if self._constant and fingerprint(text) in self._constant:
            flags.add("constant_response")
        return flags


def inspect(
    candidates: Sequence[Candidate], item: Item, rubric: Rubric | None = None
) -> dict[str, tuple[str, ...]] | None:
    """What was noticed in which candidate, by id; `None` where nothing was."""
    return Inspector(rubric).inspect(candidates, item)


def is_injection(flags: Mapping[str, Collection[str]] | None) -> bool:
    """Whether `flags` name an attempt on the judge."""
    return flags is not None and any(not INJECTIONS.isdisjoint(names) for names in flags.values())


def rubric_phrases(rubric: Rubric) -> Seek:
    """What tells whether a lower-case text holds the opening of a rubric's question or anchor."""
    phrases = [
        text[:_PHRASE].lower()
        for criterion in rubric.criteria
        for text in (criterion.question, *criterion.scale.anchors.values())
    ]
    return seeker(re.escape(phrase) for phrase in phrases if len(phrase) == _PHRASE)


def noticed(text: str, phrases: Seek | None = None) -> set[Flag]:
    """The flags of one text, whatever it answers; `phrases` are those of a rubric."""
    flags = _shapes(text, phrases)
    if soup(text) > THRESHOLD:
        flags.add("token_soup")
    if _is_repetitive(text):
        flags.add("repetitive")
    return flags


def _shapes(text: str, phrases: Seek | None) -> set[Flag]:
    """The flags of what stands in `text`, wherever it stands."""
    plain, _ = readable(text)
    low = plain.lower()
    flags: set[Flag] = set()
    if _any_hint()(low):
        for sign, hints_at in _signs():
            if (
                sign.flag not in flags
                and hints_at(low)
                and (sign.pattern is None or sign.pattern.search(low))
            ):
                flags.add(sign.flag)
    if phrases is not None and phrases(low):
        flags.add("template_echo")
    if not text.isascii() and _hides_text(text):
        flags.add("hidden_text")
    return flags


@cache
def _any_hint() -> Seek:
    """What tells whether a lower-case text may show any sign at all."""
    return seeker(sign.hint for sign in SIGNS)


@cache
def _signs() -> tuple[tuple[Sign, Seek], ...]:
    """Each sign, and what tells whether a lower-case text may show it."""
    return tuple((sign, seeker([sign.hint])) for sign in SIGNS)


def fingerprint(text: str) -> int:
    """64 bits of `text`, whatever its case and spacing."""
    plain = "".join(text.lower().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest())


def constant_responses(
    items: Iterable[tuple[Item, Sequence[Candidate]]], *, prompts: int = 3
) -> frozenset[int]:
    """Fingerprints of the responses that answer at least `prompts` different prompts.

    One pass over what will be judged, before it is: a response is then flagged wherever it
    stands, in whatever order the work is done and however often it is resumed. Memory is bounded
    by 2 MiB and the 131,072 responses that recur first. Texts under 20 characters are left out:
    "Yes." answers much.
    """
    seen = bytearray(_SEEN_BITS >> 3)
    recurring: dict[int, int] = {}
    for item, candidates in items:
        asked = fingerprint("\n".join(m.content for m in item.prompt))
        for text in (c.text for c in candidates):
            response = fingerprint(text)
            # the same prompt may get the same response many times: that is no constant
            if len(text) < _LEAST_CONSTANT or not _is_new(seen, response + asked):
                continue
            if response in recurring:
                recurring[response] += 1
            elif not _is_new(seen, response) and len(recurring) < _MOST_RECURRING:
                recurring[response] = 2
    return frozenset(response for response, count in recurring.items() if count >= prompts)


def _hides_text(text: str) -> bool:
    """Whether `text` holds characters that people cannot see, or sees in another order."""
    return (
        ("\U000e0065" in text and UNSEEN_LETTERS.search(text) is not None)
        or any(override in text for override in "\u202d\u202e")
        or (
            any(mark in text for mark in "\u200b\u2060\u2061\u2062\u2063\u2064\ufeff")
            and UNSEEN_RUN.search(text) is not None
        )
    )


def _is_new(seen: bytearray, key: int) -> bool:
    """Whether `key` was not yet marked in `seen`; marks it. A few new ones pass for old."""
    place = key % _SEEN_BITS
    bit = 1 << (place & 7)
    if seen[place >> 3] & bit:
        return False
    seen[place >> 3] |= bit
    return True


def _is_repetitive(text: str) -> bool:
    """Whether two fifths of the lines, or of the sentences, end as others do."""
    if len(text) < _PIECES * _PIECE:
        return False
    for end in ("\n", ". "):
        # nearly no text has two parts between single characters that end alike, and to split at two
        # characters takes three times as long
        parts = text.split(end[0])
        if len(parts) < _PIECES or len(parts) == len(set(map(_END, parts))):
            continue
        pieces = text.split(end)
        # where not even two pieces end as others do, no choice of them is repetitive
        if len(pieces) < _PIECES or len(pieces) - len(set(map(_END, pieces))) < 2:
            continue
        # the rows of a table may end alike
        ends = [p[-_PIECE:] for p in pieces if len(p) >= _PIECE and p[-1] != "|"]
        if len(ends) >= _PIECES and len(set(ends)) <= (1 - _REPEATED) * len(ends):
            return True
    return False
