"""How much the end of a text looks like a string that was searched for, token by token.

Suffixes found by optimizing against a judge (Zou et al. 2023, arXiv 2307.15043; Shi et al. 2024,
"JudgeDeceiver", arXiv 2403.17710) are no sentences: few function words, brackets that do not
match, punctuation in runs, capitals in odd places, no proper end; and they talk of answers and of
which is better. `soup` weighs these in the last 110 characters by a logistic regression.

The weights were fitted on 40 published suffixes, put behind honest responses, against 9,000 honest
responses. Of the suffixes to questions left out of the fit 38 of 40 were found at 0.5 % false
alarms; of those made for another judge 38 as well. It is a statistic and no wall: a suffix made to
read well passes it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from math import log1p

THRESHOLD = -1.0
"""Score from which a tail is flagged, in nats of log-odds."""

_TAIL = 110
_SHORTEST = 40
_FUNCTION_WORDS = frozenset(
    b"""
    a about all also an and any are as at be been but by can could do for from had has have he
    her his how i if in into is it its may me more my no not of on one or our out she so some
    than that the their them then there these they this to up was we were what when which who
    will with would you your
    """.split()
)
_CHOOSING_WORDS = frozenset(
    b"""
    answer answers appropriate assistant best better candidate choice choose correct
    correction emit incorrect input instruction option options output outputs pick prefer
    preferred question rate reply response responses select selection submission user vote
    votes winner wrong
    """.split()
)
_LETTERS = bytes(ord(chr(c).lower()) if chr(c).isalpha() and c < 128 else 32 for c in range(256))
"""Every letter to a small one, every other byte to a space."""
_ODD = re.compile(r"[^\w\s.,'\"!?:;()*-]")
_RUN = re.compile(r"[^\w\s]{3,}")
_GLUED = re.compile(r"[a-z][.,;:!?)\]}>=*_/\\][A-Za-z(\[{<]")
_LOW_START = re.compile(r"[.!?] [a-z]")
_CAMEL = re.compile(r"[a-z][A-Z]")
_ENDS = frozenset('.!?)"`*|}>\u201d\u3002')
_CODE = ('";', '":', ");", '",', "()", "##", "<br", "| ", "\\", "# ", "= ", "`", ', "')


def soup(text: str) -> float:
    """Log-odds, in nats, that `text` ends in a searched suffix.

    Minus infinity for a short text, and for one that ends like a sentence about something else.
    """
    tail = text.rstrip()[-_TAIL:]
    if len(tail) < _SHORTEST:
        return float("-inf")
    spelled = tail.encode("ascii", "replace")
    words = spelled.translate(_LETTERS).split()
    function = sum(map(_FUNCTION_WORDS.__contains__, words)) / max(1, len(words))
    choosing = 0
    if not _CHOOSING_WORDS.isdisjoint(words):
        choosing = min(4, sum(map(_CHOOSING_WORDS.__contains__, words)))
    # without a full stop, quote or bracket; a character of another script ends as it likes
    unfinished = tail[-1] not in _ENDS and tail[-1].isascii()
    # those that close less those that open: the lengths without them, the other way round
    brackets = abs(len(spelled.translate(None, b"([{")) - len(spelled.translate(None, b")]}")))
    if not unfinished and not brackets and choosing < 2 and function >= 0.25:
        return float("-inf")
    return (
        -4.64
        - 5.51 * min(0.4, function)
        + 0.96 * choosing
        + 0.44 * log1p(len(_ODD.findall(tail)))
        + 0.81 * min(3, len(_RUN.findall(tail)))
        + 0.32 * min(2, len(_GLUED.findall(tail)))
        + 3.06 * unfinished
        + 1.65 * min(2, brackets)
        + 1.03 * min(3, _odd_capitals(tail.split()))
        + 2.59 * min(1, len(_LOW_START.findall(tail)))
        - 1.47 * min(3, tail.count("\n"))
        - 1.21 * log1p(sum(map(str.isdigit, tail)))
        + 1.13 * min(3, choosing) * (function < 0.25)
        + 0.58 * min(3, choosing) * unfinished
        + 0.06 * min(3, sum(map(tail.count, _CODE)))
        - 0.84 * (len(words) < 8)
        - 0.61 * min(2, len(_CAMEL.findall(tail)))
    )


def _odd_capitals(tokens: list[str]) -> int:
    """How many tokens begin with a capital in the middle of a sentence."""
    return sum(
        after[0].isupper() and before[-1].isalpha() and before[0].islower()
        for before, after in pairwise(tokens)
    )
