"""Published replies of real judges: what is read in them, against what was recorded.

Every difference is accounted for. The prompts were not ours, so the marks are those of each set.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlaif.errors import VerdictError
from rlaif.judge.grades import parse_grades, parse_level
from rlaif.judge.labels import LEAST_MASS, Place, label_spread
from rlaif.judge.pairs import PairReader
from rlaif.types import Completion, TokenLogprob
from tests.builders import criterion


def _rows(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern)):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            yield from map(json.loads, file)


def test_mt_bench_pairs(shared_data: Path) -> None:
    read: Counter[str] = Counter()
    for row in _rows(shared_data, "mt_bench/model_judgment/*pair*"):
        for game, names in (("g1", ("model_1", "model_2")), ("g2", ("model_2", "model_1"))):
            try:
                winner = PairReader().mark(Completion(row[f"{game}_judgment"])).winner
            except VerdictError as error:
                # the provider failed: the file holds $ERROR$ in place of a reply
                assert row[f"{game}_winner"] == "error"
                read[error.cause] += 1
                continue
            named = {"A": names[0], "B": names[1], "tie": "tie"}[winner]
            assert named == row[f"{game}_winner"]
            read["as recorded"] += 1
    assert read == {"as recorded": 74, "unreadable": 2}


def test_mt_bench_grades(shared_data: Path) -> None:
    ten = criterion("quality", 1, 10)
    read: Counter[str] = Counter()
    for row in _rows(shared_data, "mt_bench/model_judgment/*single*"):
        try:
            grade = parse_grades(Completion(row["judgment"]), [ten])["quality"]
        except VerdictError:
            # the judge gave half a grade where whole ones were asked for
            assert row["score"] % 1 == 0.5
            read["half a grade"] += 1
            continue
        assert grade.value == row["score"]
        read["as recorded"] += 1
    assert read == {"as recorded": 477, "half a grade": 3}


def test_judgebench_labels(shared_data: Path) -> None:
    read: Counter[str] = Counter()
    for row in _rows(shared_data, "judgebench/raw_judge_text.jsonl.gz"):
        for judgment in row["judgments"]:
            label = PairReader(levels=5).mark(Completion(judgment["response"])).level
            assert label is not None
            recorded = judgment["decision"]
            if recorded is None:
                # several labels in one reply: recorded as none, and the last is the verdict
                read["the last of several"] += 1
                continue
            assert label.replace(">>", ">") == recorded
            read["as recorded"] += 1
    assert read == {"as recorded": 624, "the last of several": 8}


def test_llmbar_grades(shared_data: Path) -> None:
    scale = criterion("quality", 0, 9)
    read: Counter[str] = Counter()
    for row in _rows(shared_data, "llmbar/*.raw_judge.GPT-4.Rating.jsonl"):
        for result in row["results"]:
            recorded = result["swap = False"]["winner"]
            try:
                one, two = (
                    parse_level(Completion(result[side][0]), scale).level
                    for side in ("score_1", "score_2")
                )
            except VerdictError:
                # one reply is empty, and was recorded as the worse
                assert "" in (result["score_1"][0], result["score_2"][0])
                read["empty"] += 1
                continue
            if one == two:
                read["equal"] += 1  # recorded as one right and one wrong
                continue
            assert recorded == ("1" if one > two else "2")
            read["as recorded"] += 1
    assert read["empty"] == 1
    assert sum(read.values()) == 234
    assert read["as recorded"] > 180


def test_alpaca_eval_label_tokens(shared_data: Path) -> None:
    """The first token's probabilities give the recorded preference, both spellings summed."""
    names = {"m": "m", "M": "M"}
    n, worst, missing = 0, 0.0, 0.0
    for row in _rows(shared_data, "alpaca_eval/annotations/*.jsonl.gz"):
        logprobs: dict[str, float] | None = row.get("top_logprobs")
        if not logprobs or row["preference"] is None:
            continue
        drawn = max(logprobs, key=lambda text: logprobs[text])
        place = Place((TokenLogprob(drawn, logprobs[drawn], tuple(logprobs.items())),), "")
        found = label_spread(place, "", names)
        if not found.holds():
            continue
        # which output was shown as m is not recorded: the nearer of the two readings is meant
        share, recorded = found.p.get("m", 0.0), row["preference"] - 1
        worst = max(worst, min(abs(share - recorded), abs(1 - share - recorded)))
        missing = max(missing, found.missing_mass)
        n += 1
    assert n > 3000
    assert worst < 1e-4
    assert missing < LEAST_MASS
