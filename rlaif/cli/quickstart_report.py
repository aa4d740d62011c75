"""What the quickstart found: the summary, its conclusions, and report.html."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.cli.quickstart_steps import HELD_OUT_DRAWS, TUNED, Results

if TYPE_CHECKING:
    from rlaif.report.page import Block, Examples
    from rlaif.stats.agreement import Proportion
    from rlaif.stats.win_rate import WinRate
    from rlaif.types import Candidate, Item, Verdict

EXAMPLES = 6
MOST_KL = 20.0
"""Nats per response: beyond it a policy is far from where it began."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One measure of the held-out responses before and after, and whether it shows collapse."""

    name: str
    before: float
    after: float
    passed: bool


def summarize(results: Results, seconds: float) -> dict[str, Any]:
    """The content of `summary.json`: win rate, judge, guards, and what they mean in words."""
    rate, coverage = held_out_win_rate(results)
    judge = probe_agreement(results)
    guards = measure_guards(results)
    conclusions = _conclusions(results, rate, judge, guards)
    return {
        "judge": results.judge,
        "method": results.method,
        "policy": results.policy,
        "seed": results.seed,
        "wall_s": seconds,
        "win_rate": {
            "value": rate.value,
            "low": rate.low,
            "high": rate.high,
            "se": rate.se,
            "n": rate.n,
            "prompts": rate.n_clusters,
            "coverage": coverage,
        },
        "judge_agreement": {
            "value": judge.value,
            "low": judge.low,
            "high": judge.high,
            "n": judge.n,
        },
        "guards": [
            {"name": g.name, "before": g.before, "after": g.after, "passed": g.passed}
            for g in guards
        ],
        "rows": results.dataset["rows"],
        "held_back": results.dataset["held_back"],
        "training": results.training,
        "conclusions": conclusions,
        "table": _table(results, rate, judge, guards, seconds),
    }


def held_out_win_rate(results: Results) -> tuple[WinRate, float]:
    """The tuned model's win rate over the original, by prompt, and its coverage."""
    from rlaif.stats.win_rate import win_rate
    from rlaif.store.runs import read_verdicts

    outcomes, prompts, asked = [], [], 0
    for verdict in read_verdicts(results.folders["evaluation"]):
        asked += 1
        if verdict.preference is not None:
            outcomes.append({"A": 1.0, "tie": 0.5, "B": 0.0}[verdict.preference.winner])
            prompts.append(verdict.item.id)
    return win_rate(outcomes, prompts), len(outcomes) / asked


def probe_agreement(results: Results) -> Proportion:
    """How often the judge picks the better response of the labeled pairs; a tie counts half."""
    from rlaif.stats.agreement import accuracy
    from rlaif.store.runs import read_verdicts

    right, n = 0.0, 0
    for verdict in read_verdicts(results.folders["probe"]):
        if verdict.preference is None:
            continue
        winner = verdict.preference.winner
        right += 0.5 if winner == "tie" else float(winner == verdict.item.meta["label"])
        n += 1
    return accuracy(right, n)


def measure_guards(results: Results) -> list[Guard]:
    """What would change in the held-out responses of a policy that games its judge."""
    from rlaif.stats.text import echo, mean_words, repetition

    models = (results.policy, TUNED)
    before, after = (held_out_texts(results, model) for model in models)
    echoes = [echo(held_out_prompts(results, m), held_out_texts(results, m)) for m in models]
    likelihoods = _jsonl(results.folders["guards"] / "likelihoods.jsonl")
    originals, tuned = ([row for row in likelihoods if row["model"] == model] for model in models)
    kl = sum(r["logprob_tuned"] - r["logprob_original"] for r in tuned) / len(tuned)
    return [
        _within(
            "log-probability under the original, nats per token",
            _per_token(originals, "logprob_original"),
            _per_token(tuned, "logprob_original"),
            fall=0.5,
        ),
        Guard("KL from the original, nats per response", 0.0, kl, passed=kl < MOST_KL),
        _ratio("words per response", mean_words(before), mean_words(after), 0.6, 1.4),
        _within(
            "share that finishes",
            _finished(results, results.policy),
            _finished(results, TUNED),
            fall=0.15,
        ),
        _within("share of words from the prompt", *echoes, rise=0.10),
        _within("share that repeats itself", repetition(before), repetition(after), rise=0.10),
        *(_distinct(before, after, n) for n in (1, 2, 3)),
    ]


def _within(
    name: str, before: float, after: float, *, fall: float = math.inf, rise: float = math.inf
) -> Guard:
    """A guard that lets a figure fall or rise by less than so much."""
    return Guard(name, before, after, passed=before - fall < after < before + rise)


def _ratio(name: str, before: float, after: float, least: float, most: float) -> Guard:
    """A guard that keeps the ratio of after to before between two bounds."""
    return Guard(name, before, after, passed=least * before < after < most * before)


def _distinct(before: list[str], after: list[str], n: int) -> Guard:
    """Distinct-n of both, at the smaller number of n-grams, so that length does not enter."""
    from rlaif.stats.text import distinct_n, ngram_count

    size = min(ngram_count(texts, n) for texts in (before, after))
    one, other = (distinct_n(texts, n, size=size) for texts in (before, after))
    return _ratio(f"distinct-{n}", one, other, 0.85, math.inf)


def held_out_texts(results: Results, model: str) -> list[str]:
    """The held-out responses of one model."""
    return [c.text for _, made in _held_out(results) for c in made if c.model == model]


def held_out_prompts(results: Results, model: str) -> list[str]:
    """The prompt of each held-out response of one model."""
    return [
        " ".join(m.content for m in item.prompt)
        for item, made in _held_out(results)
        for c in made
        if c.model == model
    ]


def _held_out(results: Results) -> list[tuple[Item, tuple[Candidate, ...]]]:
    from rlaif.store.runs import read_candidates

    return list(read_candidates(results.folders["held_out"]))


def _finished(results: Results, model: str) -> float:
    rows = _jsonl(results.folders["held_out"] / "candidates.jsonl")
    ends = [
        draw["finish_reason"] == "stop"
        for row in rows
        for draw in row["draws"]
        if (draw["candidate"] or "").startswith(f"{model}#")
    ]
    share: float = sum(ends) / len(ends)
    return share


def _per_token(rows: list[dict[str, Any]], name: str) -> float:
    return math.fsum(r[name] for r in rows) / sum(int(r["tokens"]) for r in rows)


def _jsonl(path: Path) -> list[dict[str, Any]]:
    from rlaif.store.runs import read_rows

    return [row for _, row in read_rows(path)]


def _conclusions(
    results: Results, rate: WinRate, judge: Proportion, guards: list[Guard]
) -> list[str]:
    """What the numbers mean, in one plain sentence each."""
    span = f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    if rate.low > 0.5:
        gained = f"By this judge the tuned model beats the original on unseen prompts: {span}."
    elif rate.high < 0.5:
        gained = f"By this judge the tuned model is worse than the original: {span}."
    else:
        gained = f"By this judge no difference is shown: {span} includes one half."
    known = f"{judge.value:.0%} [{judge.low:.0%}, {judge.high:.0%}] of {judge.n} labeled pairs"
    if judge.low <= 0.5:
        trust = f"The judge is near chance: it is right on {known}. Treat its opinion as a demo."
    elif judge.value < 0.75:
        trust = f"The judge is weak: it is right on {known}. Use a stronger one in earnest."
    else:
        trust = f"The judge is right on {known}, easy ones; measure it on your own labels."
    fired = [g.name for g in guards if not g.passed]
    if fired:
        safe = (
            f"Guards that fired: {'; '.join(fired)}. The model may have learned to game the judge."
        )
    else:
        safe = "No guard shows a model that games its judge; read the examples all the same."
    return [gained, trust, safe]


def _table(
    results: Results, rate: WinRate, judge: Proportion, guards: list[Guard], seconds: float
) -> list[dict[str, str]]:
    rows = sum(results.dataset["rows"].values())
    passed = sum(g.passed for g in guards)
    told = [
        (
            "held-out win rate",
            f"{rate.value:.1%}",
            f"95 % [{rate.low:.1%}, {rate.high:.1%}], {rate.n_clusters} prompts x "
            f"{HELD_OUT_DRAWS} x {HELD_OUT_DRAWS}",
        ),
        (
            "judge agreement",
            f"{judge.value:.1%}",
            f"95 % [{judge.low:.1%}, {judge.high:.1%}], {judge.n} labeled pairs",
        ),
        ("guards passed", f"{passed} of {len(guards)}", "log-probability, KL, length, variety"),
        ("comparisons", str(results.verdicts["n"]), f"coverage {results.verdicts['coverage']:.1%}"),
        ("training rows", str(rows), f"{sum(results.dataset['held_back'].values())} held back"),
        (
            "training",
            f"{results.training['steps']} steps",
            f"loss {results.training['loss_first']:.3f} to {results.training['loss_last']:.3f}",
        ),
        ("time", f"{seconds:.0f} s", "this run"),
    ]
    return [{"what": what, "value": value, "note": note} for what, value, note in told]


def write_report(results: Results, summary: dict[str, Any], output: Path) -> Path:
    """Write summary.json and report.html into `output`; the report's path."""
    from rlaif.report.page import Page, write_page
    from rlaif.store.runs import whole_file

    with whole_file(output / "summary.json") as file:
        file.write(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    page = Page(
        "rlaif quickstart",
        f"`{results.policy}` tuned on the verdicts of `{results.judge}`, seed {results.seed}",
        [*_findings(summary), *_training(results), *_data(results), *_reading(results)],
        footer="All numbers are in `summary.json`, every verdict in `verdicts.jsonl` of its step.",
    )
    return write_page(page, output / "report.html")


def _findings(summary: dict[str, Any]) -> list[Block]:
    from rlaif.report.page import Callout, Heading, IntervalChart, KeyFigures, Table

    rate, judge = summary["win_rate"], summary["judge_agreement"]
    gained, trust, safe = summary["conclusions"]
    passed = all(g["passed"] for g in summary["guards"])
    figures = [(row["what"], row["value"], row["note"]) for row in summary["table"][:3]]
    return [
        KeyFigures([*figures, ("time", f"{summary['wall_s']:.0f} s", "this run")]),
        Callout("good" if rate["low"] > 0.5 else "neutral", "Did the policy change?", gained),
        Callout("warning" if judge["value"] < 0.75 else "neutral", "Can it be believed?", trust),
        Callout("good" if passed else "warning", "Did it game the judge?", safe),
        Heading(
            "Held-out win rate and judge",
            "Prompts that no training row used, answered by both models. Intervals are 95 %, by "
            "prompt; a tie counts half.",
        ),
        IntervalChart(
            "Shares against one half",
            [
                ("tuned over original", rate["low"], rate["value"], rate["high"]),
                ("judge right on labels", judge["low"], judge["value"], judge["high"]),
            ],
        ),
        Heading("Guards", "What a policy that games its judge would change."),
        Table(
            "Held-out responses before and after training",
            ("measure", "original", "tuned", "verdict"),
            [
                (g["name"], f"{g['before']:.3f}", f"{g['after']:.3f}", _passed(g["passed"]))
                for g in summary["guards"]
            ],
            notes="Distinct-n at a common number of n-grams.",
        ),
    ]


def _passed(passed: bool) -> str:
    return "ok" if passed else "**fired**"


def _training(results: Results) -> list[Block]:
    from rlaif.report.page import Heading, LineChart

    curves = _jsonl(results.folders["model"] / "training.jsonl")
    steps = list(range(1, len(curves) + 1))

    def line(name: str, key: str) -> tuple[str, list[int], list[float]]:
        return name, steps, [c[key] for c in curves]

    training = results.training
    rows = f"{training['rows_trained']} pairs, {training['steps']} steps, {training['dtype']}"
    return [
        Heading("Training", f"DPO with LoRA on {rows}."),
        LineChart(
            "Loss", "step", "nats", [line("loss", "loss")], references=[(0.6931, "no preference")]
        ),
        LineChart(
            "Implicit rewards",
            "step",
            "nats",
            [
                line("chosen", "rewards/chosen"),
                line("rejected", "rewards/rejected"),
                line("margin", "rewards/margins"),
            ],
        ),
    ]


def _data(results: Results) -> list[Block]:
    from rlaif.report.page import Heading, Table

    held = results.dataset["held_back"].items()
    stages = [("candidates", results.candidates), ("verdicts", results.verdicts)]
    return [
        Heading("Data", "Of each prompt the best candidate over the worst."),
        Table(
            "What was asked, and how much of it has an answer",
            ("stage", "n", "coverage", "causes"),
            [
                (name, made["n"], f"{made['coverage']:.1%}", _causes(made["causes"]))
                for name, made in stages
            ],
        ),
        Table("Comparisons held back", ("reason", "comparisons"), [*held] or [("none", 0)]),
    ]


def _causes(causes: dict[str, int]) -> str:
    return ", ".join(f"{n} {cause}" for cause, n in causes.items()) or "none"


def _reading(results: Results) -> list[Block]:
    from rlaif.report.page import Files, Heading, Step, Steps

    folders = [
        ("1-candidates/", "four responses of the original model to every training prompt"),
        ("2-verdicts/", "every comparison, one record a line"),
        ("3-dataset/", "the preference data set; opens with `datasets.load_from_disk`"),
        ("4-model/", "the tuned checkpoint, its curves and its card"),
        ("5-held-out/", "responses of both models to the held-out prompts"),
        ("6-evaluation/", "the verdicts behind the win rate"),
        ("7-judge-probe/", "the judge on labeled pairs"),
        ("8-guards/", "log-probabilities of the held-out responses under both models"),
    ]
    return [
        Heading("Read for yourself", "Six held-out prompts, drawn by the seed and not by result."),
        _examples(results),
        Heading("What was made"),
        Files(folders),
        Heading("What to do next"),
        Steps(
            [
                Step(
                    "Judge with a model that is right more often than a coin. The key is read "
                    "from `OPENAI_API_KEY` and written nowhere.",
                    "rlaif quickstart --judge openai/gpt-5.1 -o runs/with-a-judge",
                ),
                Step(
                    "Bring your own prompts and models.",
                    "rlaif generate prompts.jsonl -m server/my-model --base-url "
                    "http://localhost:8000/v1 -n 4 -o runs/candidates",
                ),
                Step(
                    "Judge them by a rubric, in both orders, and make a data set.",
                    "rlaif judge compare runs/candidates -m openai/gpt-5.1 -r helpfulness "
                    "-o runs/verdicts\nrlaif prefer runs/verdicts -o dataset",
                ),
                Step("Train your model on it.", "rlaif train dpo dataset -m PATH -o runs/dpo"),
            ]
        ),
    ]


def _examples(results: Results) -> Examples:
    from rlaif.report.page import Example, Examples
    from rlaif.store.runs import read_verdicts

    verdicts = [v for v in read_verdicts(results.folders["evaluation"]) if _first_draws(v)]
    drawn = random.Random(results.seed).sample(verdicts, min(EXAMPLES, len(verdicts)))  # noqa: S311
    return Examples(
        [
            Example(
                verdict.item.prompt[-1].content,
                "original",
                verdict.candidates[1].text,
                "tuned",
                verdict.candidates[0].text,
                _told(verdict),
            )
            for verdict in sorted(drawn, key=lambda v: v.item.id)
        ]
    )


def _first_draws(verdict: Verdict) -> bool:
    return all(c.id.endswith("#0") for c in verdict.candidates)


def _told(verdict: Verdict) -> str:
    if verdict.preference is None:
        return f"No verdict: {verdict.cause}."
    names = {"A": "the tuned model's", "B": "the original's", "tie": "neither"}
    winner = names[verdict.preference.winner]
    return f"The judge prefers {winner}; P(tuned preferred) = {verdict.preference.p_a:.2f}."
