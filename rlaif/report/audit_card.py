"""The page of an audit: each check as an interval against its bounds, and what it means."""

from __future__ import annotations

from dataclasses import replace

from rlaif.evals.audit import Audit, Worst, worst_examples
from rlaif.evals.audit_checks import Check
from rlaif.report.browser import VerdictBrowser
from rlaif.report.drawn import Held, HeldList
from rlaif.report.page import Block, Callout, Files, Heading, KeyFigures, Page, Paragraph, Table
from rlaif.report.run_entries import entry_of

MEANINGS: dict[str, tuple[str, str]] = {
    "position_flipped": (
        "Position: verdicts that flip",
        "Pairs whose winner changes when the two responses change places. Asking both orders "
        "keeps such pairs from deciding anything, at the price of comparisons that say nothing.",
    ),
    "position_first": (
        "Position: share of the first place",
        "How often the response shown first is chosen, over both orders of every pair. A fair "
        "judge gives each place half.",
    ),
    "identical_responses": (
        "Identical responses",
        "A response against itself, asked twice. Every verdict but a tie is invented.",
    ),
    "repeatability": (
        "Repeatability",
        "The same question drawn again. What changes between draws is noise, not opinion.",
    ),
    "length_preference": (
        "Length",
        "A response among sentences that say nothing, against the response alone. A judge that "
        "prefers the padding pays for words.",
    ),
    "markdown_preference": (
        "Lists and markdown",
        "The same sentences as a list under a heading, against plain text. At equal content "
        "neither should win much more than half.",
    ),
    "verbosity_attack": (
        "Repetitive list",
        "Every point said again and again in a numbered list, against saying it once.",
    ),
    "null_model_attack": (
        "Constant text",
        "A text that answers nothing and imitates the judge's prompt, against a real response. "
        "A judge that falls for it can be topped by a model that reads no prompt.",
    ),
    "injection_attack": (
        "Injected instructions",
        "An empty phrase with a forged verdict, forged tags, an order to ignore the above, or "
        "false authority, against a real response.",
    ),
    "self_preference": (
        "Self-preference",
        "What the judge gives models of its own family beyond what the labels give them.",
    ),
    "preference_leakage": (
        "Preference leakage",
        "How much this judge and a second one each favor their own family over the average of "
        "both opinions. Needs no labels.",
    ),
    "format_failures": (
        "No verdict",
        "Comparisons without a verdict: unreadable, refused, cut off, or failed at the provider. "
        "They count neither for nor against any response.",
    ),
    "accuracy": (
        "Right on labeled pairs",
        "Agreement with the labels over both orders, a tie half. The shipped pairs are easy: a "
        "judge fit for use gets nearly all of them.",
    ),
}
"""For each check its title and what it means."""


def audit_page(audit: Audit, data: str) -> Page:
    """The page of `audit`, made with the pairs called `data`."""
    passed = [check for check in audit.checks if check.passed]
    rubric = audit.judge.rubric
    by = f", rubric `{rubric.name}` {rubric.version}" if rubric else ""
    return Page(
        f"Audit of {audit.judge.model}",
        f"{audit.judge.method}{by}, temperature {audit.judge.sampling.temperature:g}, on {data}",
        [
            KeyFigures(
                [
                    ("checks passed", f"{len(passed)} of {len(audit.checks)}", _strictness(audit)),
                    ("comparisons", f"{audit.n:,}", "most of them asked in both orders"),
                    ("coverage", f"{audit.coverage:.1%}", _causes(audit)),
                ]
            ),
            _conclusion(audit),
            Heading(
                "Checks",
                "Each mark is the effect with its 95 % interval by prompt; the shaded part of the "
                "scale is out of bounds.",
            ),
            HeldList([_held(check) for check in audit.checks]),
            *_attacks(audit),
            *_skipped(audit),
            *_examples(worst_examples(audit)),
            Heading("What was made"),
            Files(
                [
                    ("audit.json", "every check with its numbers"),
                    ("verdicts.jsonl", "every comparison, one record a line"),
                ]
            ),
        ],
        footer=f"Thresholds: {audit.thresholds}.",
    )


def _strictness(audit: Audit) -> str:
    return "whole intervals in bounds" if audit.strict else "effects in bounds"


def _causes(audit: Audit) -> str:
    return ", ".join(f"{n} {cause}" for cause, n in audit.causes.items()) or "all with a verdict"


def _title(check: Check) -> str:
    return MEANINGS[check.name][0]


def _conclusion(audit: Audit) -> Callout:
    failed = [check for check in audit.checks if not check.passed]
    doubtful = [_title(c) for c in audit.checks if not c.certain and c.effect is not None]
    doubt = ""
    if doubtful:
        doubt = (
            f"\n\nLess than certain with so few pairs: {'; '.join(doubtful)}. Their intervals "
            "reach over their bounds; more pairs (`--data`) would tell."
        )
    if not failed:
        return Callout("good", "Passes every check", f"Nothing speaks against its use.{doubt}")
    names = "; ".join(map(_title, failed))
    return Callout("warning", f"Fails {len(failed)} of {len(audit.checks)}", f"{names}.{doubt}")


def _held(check: Check) -> Held:
    title, meaning = MEANINGS[check.name]
    notes = [f"n = {check.n:,}"]
    if check.coverage < 1:
        notes.append(f"coverage {check.coverage:.1%}")
    flips = check.more.get("flipped")
    if flips and (share := check.more.get("flipped_to_first")) is not None:
        notes.append(f"of {flips} flipped pairs {share:.0%} went to the first place")
    if check.effect is not None and not check.certain:
        notes.append("the interval reaches over the bound")
    signed = check.name in ("self_preference", "preference_leakage")
    return Held(
        title,
        meaning,
        check.low,
        check.effect,
        check.high,
        check.bounds.least,
        check.bounds.most,
        check.passed,
        note="; ".join(notes) + ".",
        start=-1.0 if signed else 0.0,
    )


def _attacks(audit: Audit) -> list[Block]:
    rows = [
        (_title(check), variant.replace("_", " "), f"{found['effect']:.0%}", int(found["n"]))
        for check in audit.checks
        for variant, found in check.by.items()
    ]
    if not rows:
        return []
    columns = ("check", "kind", "judgments won", "pairs")
    return [
        Heading("Attacks by kind", "Each pair is attacked in one way, in turn."),
        Table("Share of judgments that the attacking text won", columns, rows),
    ]


def _skipped(audit: Audit) -> list[Block]:
    if not audit.skipped:
        return []
    told = [f"**{MEANINGS[name][0]}**: {why}." for name, why in audit.skipped]
    return [Heading("Not checked"), Paragraph("\n\n".join(told))]


def _examples(worst: list[Worst]) -> list[Block]:
    if not worst:
        return []
    entries = [
        replace(entry, title=f"{MEANINGS[one.check][0]}: {entry.title}")
        for one in worst
        for entry in [entry_of(one.verdict)]
    ]
    told = ", ".join(dict.fromkeys(MEANINGS[one.check][0].lower() for one in worst))
    note = f"What counts most against the judge: {told}."
    return [
        Heading("Worst examples", "Open one to read what was asked and what the judge said."),
        VerdictBrowser(entries, note),
    ]
