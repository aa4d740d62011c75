"""How RewardBench 1 and 2 and RM-Bench sum their subsets up, beside the figures of every set.

    label_result("rm-bench", lambda: read_verdicts(run))["subsets"]["hard"]["accuracy"]

RewardBench 1: the mean over four sections, each the mean of its items; in Reasoning the mathematics
weighs as much as the code (Lambert et al. 2024, arXiv 2403.13787, section 4). RewardBench 2: the
chosen response must beat every rejected one, a tie with k others for the best gives 1/(k+1); the
mean over subsets (Malik et al. 2025, arXiv 2506.01937). Its Ties subset needs rewards (see
`ties_rule`), which a judge of pairs does not give: it has no figure by that rule then, and is not
in the mean. RM-Bench: by how much plainer the better response is, and the mean over domains (Liu et
al. 2024, arXiv 2410.16184).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlaif.evals.games import with_meta
from rlaif.evals.judge_bench import Format
from rlaif.evals.labels import LabelTable
from rlaif.evals.reading import question_of
from rlaif.evals.ties_rule import TiesTable
from rlaif.types import Verdict

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Chat": (
        "alpacaeval-easy",
        "alpacaeval-length",
        "alpacaeval-hard",
        "mt-bench-easy",
        "mt-bench-med",
    ),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": (
        "math-prm",
        "hep-cpp",
        "hep-go",
        "hep-java",
        "hep-js",
        "hep-python",
        "hep-rust",
    ),
}
"""RewardBench 1: the subsets of each section."""

_MATHEMATICS = "math-prm"
_TIES = "Ties"
_SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}


def label_result(name: Format, verdicts: Callable[[], Iterable[Verdict]]) -> dict[str, Any]:
    """The table of a judged set: `LabelTable.result`, with the set's own way of summing up.

    Args:
        name: The set.
        verdicts: Reads the verdicts, from the beginning each time.

    Raises:
        DataError: there are no verdicts.
    """
    table = LabelTable()
    for verdict in verdicts():
        table.add(verdict)
    result = table.result()
    if name == "rewardbench":
        _sections(result, verdicts())
    elif name == "rewardbench2":
        _best_of_n(result, verdicts())
    elif name == "rm-bench":
        _difficulties(result, verdicts())
    return result


def _sections(result: dict[str, Any], verdicts: Iterable[Verdict]) -> None:
    rows = _regrouped(verdicts, lambda v: _SECTION_OF.get(str(v.item.meta.get("subset"))))
    subsets = result["subsets"]
    for section, row in rows.items():
        parts = [subsets[name] for name in SECTIONS[section] if name in subsets]
        row["accuracy_own_rule"] = _weighted(parts)
        if section == "Reasoning" and _MATHEMATICS in subsets:
            code = _weighted([subsets[n] for n in SECTIONS[section][1:] if n in subsets])
            row["accuracy_own_rule"] = _mean([subsets[_MATHEMATICS]["accuracy_own_rule"], code])
    _sum_up(result, rows, "mean of sections")


def _difficulties(result: dict[str, Any], verdicts: Iterable[Verdict]) -> None:
    domains = {name: row for name, row in result["subsets"].items() if name != "all"}
    rows = _regrouped(verdicts, lambda v: v.item.meta.get("difficulty"))
    result["subsets"] |= {n: rows[n] for n in ("easy", "normal", "hard") if n in rows}
    _sum_up(result, domains, "mean of domains")


def _best_of_n(result: dict[str, Any], verdicts: Iterable[Verdict]) -> None:
    groups: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    ties = TiesTable()
    for verdict in verdicts:
        subset = str(verdict.item.meta.get("subset"))
        if subset == _TIES:
            ties.add(verdict)
            continue
        groups[subset, question_of(verdict.item)].append(_standing(verdict))
    shares: dict[str, list[float]] = defaultdict(list)
    for (subset, _), standings in groups.items():
        if (share := _share_of_best(standings)) is not None:
            shares[subset].append(share)
    rows = {name: row for name, row in result["subsets"].items() if name != "all"}
    for name, row in rows.items():
        row["accuracy_own_rule"] = _mean(shares[name])
        row["own_rule_n"] = len(shares[name])
    if _TIES in rows:
        score = ties.score()
        rows[_TIES] |= {"accuracy_own_rule": score, "own_rule_n": 0 if score is None else len(ties)}
    _sum_up(result, rows, "best of n, mean of subsets")


def _standing(verdict: Verdict) -> float | None:
    """1 where the chosen response won, 0.5 a tie, 0 lost, None without a verdict."""
    if verdict.preference is None:
        return None
    winner = verdict.preference.winner
    return 0.5 if winner == "tie" else float(winner == verdict.item.meta["label"])


def _share_of_best(standings: Sequence[float | None]) -> float | None:
    """What an item counts: 0 if the chosen lost once, else shared with those it tied with."""
    if any(standing is None for standing in standings):
        return None
    if 0.0 in standings:
        return 0.0
    return 1 / (1 + standings.count(0.5))


def _regrouped(
    verdicts: Iterable[Verdict], group: Callable[[Verdict], str | None]
) -> dict[str, dict[str, Any]]:
    """Rows of a table whose subsets are `group`; verdicts of no group are left out."""
    table = LabelTable()
    found = False
    for verdict in verdicts:
        if (name := group(verdict)) is not None:
            found = True
            table.add(replace(verdict, item=with_meta(verdict.item, subset=name)))
    if not found:
        return {}
    return {name: row for name, row in table.result()["subsets"].items() if name != "all"}


def _sum_up(result: dict[str, Any], parts: Mapping[str, Mapping[str, Any]], rule: str) -> None:
    """Let the whole be the plain mean of its parts, if it has any, and name the rule."""
    if not parts:
        return
    for name, row in parts.items():
        result["subsets"].setdefault(name, row)
    result["subsets"]["all"]["accuracy_own_rule"] = _mean(
        [row["accuracy_own_rule"] for row in parts.values()]
    )
    result["rule"] = rule


def _weighted(rows: Iterable[Mapping[str, Any]]) -> float | None:
    known = [(r["accuracy_own_rule"], r["own_rule_n"]) for r in rows if r["own_rule_n"]]
    total = sum(n for _, n in known)
    return sum(value * n for value, n in known) / total if total else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
