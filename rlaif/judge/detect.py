"""What looks like an attempt on the judge in a response: noticed, named, never hidden.

    inspector = Inspector(rubric, constant_responses(items))
    inspector.inspect((a, b), item)       # {"b": ("judge_instruction", "verdict_shaped")}, or None

Each flag is a fact about the text, not a judgment of its author. An honest response to a question
about judging can hold the same words, so what the prompt itself shows is not held against its
responses. Time is linear in the text, and most texts are done with after a few searches for fixed
words: about 20 microseconds for 1,000 characters.

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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter

from rlaif.judge.markers import readable
from rlaif.judge.signs import SIGNS, UNSEEN_LETTERS, UNSEEN_RUN, Flag, Sign
from rlaif.judge.soup import THRESHOLD, soup
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Item

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
_REMEMBERED = 256
_MASKS = 4096


@dataclass(frozen=True, slots=True)
class Phrases:
    """Lower-case pieces of a rubric, by one word of each, which is looked for first."""

    by_word: Mapping[bytes, tuple[str, ...]]
    telling: frozenset[bytes]
    """All words to look for: these, and those that signs need."""


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
        # a candidate stands in many pairs
        self._noticed = lru_cache(maxsize=_REMEMBERED)(partial(noticed, phrases=self._phrases))
        self._constant = constant

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
            text = _said(candidate)
            flags = self._noticed(text)
            if flags:
                if asked is None:
                    asked = _shapes("\n\n".join(m.content for m in item.prompt), self._phrases)
                flags = flags - asked
            if self._constant and fingerprint(text) in self._constant:
                flags = flags | {"constant_response"}
            if flags:
                found[candidate.id] = tuple(sorted(flags))
        return found or None


def _said(candidate: Candidate) -> str:
    """`candidate.text`, with nothing to join where there is one message."""
    if len(candidate.response) == 1 and candidate.response[0].role == "assistant":
        return candidate.response[0].content
    return candidate.text


def inspect(
    candidates: Sequence[Candidate], item: Item, rubric: Rubric | None = None
) -> dict[str, tuple[str, ...]] | None:
    """What was noticed in which candidate, by id; `None` where nothing was."""
    return Inspector(rubric).inspect(candidates, item)


def is_injection(flags: Mapping[str, Collection[str]] | None) -> bool:
    """Whether `flags` name an attempt on the judge."""
    return flags is not None and any(not INJECTIONS.isdisjoint(names) for names in flags.values())


def rubric_phrases(rubric: Rubric) -> Phrases:
    """The openings of a rubric's questions and anchors, by their longest word."""
    phrases: dict[bytes, tuple[str, ...]] = {}
    for criterion in rubric.criteria:
        for text in (criterion.question, *criterion.scale.anchors.values()):
            phrase = text[:_PHRASE].lower()
            # the last word of the piece may be cut
            words = _split(phrase)[:-1]
            if len(phrase) == _PHRASE and words:
                longest = max(words, key=len)
                phrases[longest] = (*phrases.get(longest, ()), phrase)
    return Phrases(phrases, _TELLING_WORDS.union(phrases))


def noticed(text: str, phrases: Phrases | None = None) -> set[Flag]:
    """The flags of one text, whatever it answers."""
    flags = _shapes(text, phrases)
    if soup(text) > THRESHOLD:
        flags.add("token_soup")
    if _is_repetitive(text):
        flags.add("repetitive")
    return flags


def _shapes(text: str, phrases: Phrases | None) -> set[Flag]:
    """The flags of what stands in `text`, wherever it stands."""
    plain, _ = readable(text)
    # lower case is only made where a sign is looked for: few texts have the words for any
    words = _split(plain) if plain.isascii() else _split(plain.lower())
    found = (phrases.telling if phrases else _TELLING_WORDS).intersection(words)
    told = 0
    for word in found:
        told |= _TELLING.get(word, 0)
    for character, bit in _CHARACTERS:
        if character in plain:
            told |= bit
    signs = _told_by(told)
    echoed = found & phrases.by_word.keys() if phrases else frozenset()
    low = plain.lower() if signs or echoed else ""
    flags: set[Flag] = set()
    for sign in signs:
        if (
            sign.flag not in flags
            and (not sign.texts or any(map(low.__contains__, sign.texts)))
            and (sign.pattern is None or sign.pattern.search(low))
        ):
            flags.add(sign.flag)
    if phrases and any(phrase in low for word in echoed for phrase in phrases.by_word[word]):
        flags.add("template_echo")
    if not text.isascii() and _hides_text(text):
        flags.add("hidden_text")
    return flags


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


def _bits() -> tuple[list[tuple[Sign, int]], dict[bytes, int], list[tuple[str, int]]]:
    """Each sign with a bit for each group of words and each character that it needs.

    And each word with the bits of its groups, and each character with its bit.
    """
    bits: dict[object, int] = {}
    words: dict[bytes, int] = {}
    needed: list[tuple[Sign, int]] = []
    for sign in SIGNS:
        needs = [*sign.words, *([sign.character] if sign.character else [])]
        for need in needs:
            bit = bits.setdefault(need, 1 << len(bits))
            for word in need if isinstance(need, frozenset) else ():
                words[word] = words.get(word, 0) | bit
        needed.append((sign, sum({bits[need] for need in needs})))
    return needed, words, [(c, bit) for c, bit in bits.items() if isinstance(c, str)]


_NEEDED, _TELLING, _CHARACTERS = _bits()
_TELLING_WORDS = frozenset(_TELLING)
_TO_SPACE = bytes(ord(chr(c).lower()) if chr(c).isalnum() and c < 128 else 32 for c in range(256))


@lru_cache(maxsize=_MASKS)
def _told_by(told: int) -> tuple[Sign, ...]:
    """The signs that need no other words and characters than those of the bits `told`."""
    return tuple(sign for sign, needed in _NEEDED if told & needed == needed)


def _split(text: str) -> list[bytes]:
    """The ASCII words of `text`, in lower case."""
    return text.encode("ascii", "replace").translate(_TO_SPACE).split()


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
    for pieces in (text.split("\n"), text.split(". ")):
        # where not even two pieces end as others do, no choice of them is repetitive
        if len(pieces) < _PIECES or len(pieces) - len(set(map(_END, pieces))) < 2:
            continue
        # the rows of a table may end alike
        ends = [p[-_PIECE:] for p in pieces if len(p) >= _PIECE and p[-1] != "|"]
        if len(ends) >= _PIECES and len(set(ends)) <= (1 - _REPEATED) * len(ends):
            return True
    return False
