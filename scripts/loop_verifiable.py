#!/usr/bin/env python
"""A loop whose judge can be checked: plain sentences, on the embedded model, in some minutes.

    python scripts/loop_verifiable.py

The judge is a function: how many commas a response has for each word, fewer being better. The
held-out judge is another function of the same aim, which training never sees: the share of
sentences without any. The experiment ends with 0 only if, on prompts that no training row used,
both prefer the policy to the start by more than their 95 % intervals, and no alarm fired.
"""

from __future__ import annotations

import re
import sys

from loop_experiment import arguments, function_judge, run_experiment

from rlaif.stats.text import words

_SENTENCE = re.compile(r"[^.!?\n]*\w[^.!?\n]*")


def commas(text: str) -> float:
    """Commas for each word, 0 where there is no word."""
    count = len(words(text))
    return text.count(",") / count if count else 0.0


def few_commas(text: str) -> float:
    """40 nats less for a comma a word; a response without words has none to spare."""
    return -40.0 * commas(text) if words(text) else -40.0


def plain_sentences(text: str) -> float:
    """4 nats for the share of sentences without a comma."""
    found = _SENTENCE.findall(text)
    return 4.0 * sum("," not in sentence for sentence in found) / len(found) if found else 0.0


def main() -> int:
    given = arguments(__doc__ or "", "runs/loop-verifiable").parse_args()
    made = run_experiment(
        given,
        function_judge("few-commas", few_commas),
        function_judge("plain-sentences", plain_sentences),
    )
    last = made["rounds"][-1]
    better = last["reward"]["low"] > 0.5 and last["gold"]["low"] > 0.5
    print("improved by both judges:", "yes" if better else "no")
    print("alarms:", ", ".join(made["fired"]) or "quiet")
    return 0 if better and not made["fired"] else 1


if __name__ == "__main__":
    sys.exit(main())
