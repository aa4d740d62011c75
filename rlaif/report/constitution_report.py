"""A page about a run of critique and revision: what was kept, how texts changed, chains to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.constitutional.principles import drawn_number
from rlaif.constitutional.records import REVISIONS, Chain, Round, read_chains
from rlaif.errors import DataError
from rlaif.report.charts import IntervalChart
from rlaif.report.page import (
    Block,
    Callout,
    Example,
    Examples,
    Heading,
    KeyFigures,
    Page,
    Table,
    files_beside,
)
from rlaif.store.runs import read_json

SAMPLE = 20
_TELLING = 0.75
"""Share of held-out pairs that words alone may decide before it is said."""


def chains_page(path: Path, *, sample: int = SAMPLE, seed: int = 0) -> Page:
    """The page of a run folder of `rlaif constitution critique`.

    Args:
        path: The run.
        sample: Most chains to show in full.
        seed: Seed of their sample.

    Raises:
        SpecError: a file is missing or malformed.
        DataError: the run has no chains, or its summary was not written by such a run.
    """
    summary = read_json(path / "summary.json")
    if not isinstance(summary, dict) or "drift" not in summary:
        raise DataError(f"{path / 'summary.json'} tells nothing of chains")
    shown = _sample(read_chains(path), sample, seed)
    if not shown:
        raise DataError(f"{path / REVISIONS} holds no chains")
    recipe = shown[0].recipe
    constitution = f"`{recipe.constitution.name}` {recipe.constitution.version}"
    checked = f", checked {recipe.check} by `{recipe.judge}`" if recipe.judge else ", unchecked"
    drift = summary["drift"]
    return Page(
        f"Revisions {path.resolve().name}",
        f"By `{recipe.actor}`, criticized by `{recipe.critic}`, under {constitution}{checked}",
        [
            _figures(summary),
            *_conclusions(summary),
            *_rounds(summary),
            *_principles(summary),
            *_texts(drift),
            *_words(drift),
            Heading("Chains to read", f"{len(shown)} of {summary['chains']:,}, drawn at random."),
            Examples([_example(chain) for chain in shown]),
            *_files(path),
        ],
        footer="All intervals are 95 %, by prompt. Refusals and stock phrases are known by their "
        "words, in English. A judge's preference is an opinion, and as good as the judge.",
    )


def _sample(chains: Iterable[Chain], size: int, seed: int) -> list[Chain]:
    """`size` chains, whichever order they come in."""
    kept: list[tuple[int, Chain]] = []
    for chain in chains:
        kept.append((drawn_number(1 << 62, seed, "page", chain.id), chain))
        if len(kept) > 2 * size + 100:
            kept = sorted(kept, key=lambda one: one[0])[:size]
    return [chain for _, chain in sorted(kept, key=lambda one: one[0])[: max(size, 1)]]


def _figures(summary: Mapping[str, Any]) -> KeyFigures:
    revised, chains = summary["revised"], summary["chains"]
    kept = sum(p.get("kept", 0) for p in summary["principles"].values())
    lost = sum(p.get("not_preferred", 0) for p in summary["principles"].values())
    shown = [
        ("chains", f"{chains:,}", f"{summary['n'] - chains:,} rows held no prompt"),
        ("revised", _percent(revised, chains), "end in a revision"),
    ]
    if kept + lost:
        shown.append(("kept", _percent(kept, kept + lost), "of the revisions that were judged"))
    shown.append(("stopped early", _percent(summary["stopped_early"], chains), "of the chains"))
    shown.append(("calls", f"{summary['calls']:,}", f"{summary['calls_cached']:,} from the store"))
    if summary.get("cost_usd"):
        shown.append(("cost", f"${summary['cost_usd']:,.2f}", "as the provider bills"))
    return KeyFigures(shown)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _conclusions(summary: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    causes = summary["causes"]
    if causes and summary["coverage"] < 0.95:
        told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in causes.items())
        found.append(Callout("warning", "Many prompts have no revision", f"{told}."))
    words = summary["drift"]["separability"]
    if words.get("low", 0.0) > _TELLING:
        said = ", ".join(f"`{word}`" for word, _ in words["second"][:5])
        told = (
            f"A bag of words tells revisions from first responses in {words['accuracy']:.0%} of "
            f"pairs it has not seen, by {said}. A model trained on them may learn these words."
        )
        found.append(Callout("warning", "Words alone give the revisions away", told))
    evasive = _gap(summary["drift"], "harmless")
    if evasive is not None and evasive > 0:
        told = f"Refusals of harmless prompts rose by {evasive:.1%} from first to last."
        found.append(Callout("warning", "The responses became evasive", told))
    if summary["drift"]["leaked"]:
        told = f"{summary['drift']['leaked']:,} revisions hold words of a critique."
        found.append(Callout("warning", "Critique leaked into revisions", told))
    return found


def _gap(drift: Mapping[str, Any], group: str) -> float | None:
    """How much the lower end of the last round's refusals is above the first round's share."""
    rounds = drift["rounds"]
    if len(rounds) < 2 or group not in rounds[0]["refusals"]:
        return None
    first, last = (rounds[i]["refusals"][group] for i in (0, -1))
    return float(last["value"] - first["value"]) if last["low"] > first["value"] else 0.0


def _rounds(summary: Mapping[str, Any]) -> list[Block]:
    names = ("kept", "unchecked", "not_preferred", "no_verdict", "fault")
    used = [name for name in names if any(name in row for row in summary["rounds"])]
    rows = [[str(row["round"]), *(row.get(name, 0) for name in used)] for row in summary["rounds"]]
    faults = [(name.replace("_", " "), n) for name, n in summary["faults"].items()]
    blocks: list[Block] = [
        Heading("Rounds", "What became of the revision of each round."),
        Table("Rounds", ("round", *(name.replace("_", " ") for name in used)), rows),
    ]
    if faults:
        blocks.append(Table("Rounds without a usable revision", ("why", "rounds"), faults))
    return blocks


def _principles(summary: Mapping[str, Any]) -> list[Block]:
    rows = [
        (
            name.replace("`", "'"),
            found["rounds"],
            found.get("kept", 0),
            found.get("not_preferred", 0),
            found.get("fault", 0),
            "–" if found["keep_rate"] is None else f"{found['keep_rate']:.1%}",
        )
        for name, found in summary["principles"].items()
    ]
    columns = ("principle", "rounds", "kept", "not preferred", "fault", "keep rate")
    drawn = summary["drift"]["principles"]
    intro = (
        f"{drawn['drawn']} of {len(rows)} were drawn; as evenly as {drawn['effective']:.1f} "
        "principles that are drawn equally often."
    )
    return [Heading("Principles", intro), Table("By principle", columns, rows)]


def _texts(drift: Mapping[str, Any]) -> list[Block]:
    rows = [
        (
            str(row["round"]),
            row["n"],
            _told(row["words"], percent=False),
            *(_told(row["refusals"].get(g), percent=True) for g in ("all", "harmful", "harmless")),
            _told(row["boilerplate"], percent=True),
        )
        for row in drift["rounds"]
    ]
    columns = ("round", "n", "words", "refusals", "of harmful", "of harmless", "stock phrases")
    notes = "Round 0 is the first response. A chain that ended early stands as it ended."
    blocks: list[Block] = [
        Heading("How the responses changed"),
        Table("The responses that stood after each round", columns, rows, notes),
    ]
    drawn = [
        (f"round {row['round']}", found["low"], found["value"], found["high"])
        for row in drift["rounds"]
        if (found := row["words"]) is not None and "low" in found
    ]
    if drawn:
        blocks.append(IntervalChart("Words of a response", drawn))
    near = drift["near_duplicates"]
    if near["final"] is not None:
        sides = (("first responses", near["first"]), ("revisions", near["final"]))
        shares = [(name, f"{value:.1%}") for name, value in sides]
        blocks.append(Table("Nearly the same as an earlier one", ("texts", "share"), shares))
    return blocks


def _told(found: Mapping[str, float] | None, *, percent: bool) -> str:
    if found is None:
        return "–"
    form = ".1%" if percent else ".1f"
    ends = f" [{found['low']:{form}}, {found['high']:{form}}]" if "low" in found else ""
    return f"{found['value']:{form}}{ends}"


def _words(drift: Mapping[str, Any]) -> list[Block]:
    found = drift["separability"]
    if "reason" in found:
        return [Callout("neutral", "Words were not compared", f"{found['reason']}.")]
    rows = [
        ("pairs", f"{found['n']:,}"),
        (
            "told apart by words",
            f"{found['accuracy']:.1%} [{found['low']:.1%}, {found['high']:.1%}]",
        ),
        ("the longer one is the revision", f"{found['longer']:.1%}"),
        ("words of revisions", ", ".join(f"`{word}`" for word, _ in found["second"])),
        ("words of first responses", ", ".join(f"`{word}`" for word, _ in found["first"])),
    ]
    intro = "How well a bag of words tells revisions from first responses; 50% is chance."
    return [Heading("What gives a revision away", intro), Table("Words", ("what", "found"), rows)]


def _example(chain: Chain) -> Example:
    said = "\n\n".join(f"{m.role}: {m.content}" for m in chain.item.prompt)
    steps = "\n\n".join(_step(one) for one in chain.rounds)
    verdict = "ends in a revision" if chain.revised else "keeps the first response"
    if chain.cause:
        verdict = f"no revision: {chain.cause.replace('_', ' ')}"
    first = chain.first if chain.first is not None else "(none)"
    return Example(
        f"{chain.item.id}: {verdict}",
        "Prompt and first response",
        f"{said}\n\nassistant: {first}",
        "What followed",
        steps or "(nothing)",
        f"{len(chain.rounds)} rounds, {verdict}",
    )


def _step(one: Round) -> str:
    status = one.status if one.fault is None else one.fault
    parts = [f"Round {one.number}, {one.principle}: {status.replace('_', ' ')}"]
    if one.check is not None and one.check.p_revision is not None:
        parts[0] += f", P(revision) {one.check.p_revision:.2f}"
    if one.critique:
        parts.append(f"Critique: {one.critique}")
    if one.revision:
        parts.append(f"Revision: {one.revision}")
    elif one.reason:
        parts.append(f"({one.reason})")
    return "\n".join(parts)


def _files(path: Path) -> list[Block]:
    return files_beside(
        path,
        {
            "config.json": "everything that decided the result",
            REVISIONS: "every chain with all its texts, one a line",
            "verdicts.jsonl": "the verdicts of the checks",
            "skipped.jsonl": "rows that hold no prompt",
            "summary.json": "counts, coverage, tokens and time",
        },
    )
