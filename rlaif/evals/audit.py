"""Is this judge fit for use? Checks of its biases, its steadiness and its resistance to attacks.

    judge = AuditJudge(backend, rubric)
    verdicts = [await judge.compare(trial) for trial in build_trials(pairs, texts, TRIALS)]
    audit = audit_verdicts(verdicts, load_thresholds())
    audit.passed, [check.name for check in audit.checks if not check.passed]

Each check is the mean of one outcome for each comparison, with a 95 % interval by prompt, held to
bounds from a file. A judge that gives no verdict fails: nothing was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, get_args

from rlaif.candidates import pair_up
from rlaif.errors import DataError
from rlaif.evals.audit_checks import (
    LEAKAGE,
    LEAKAGE_WHAT,
    SPECS,
    Check,
    Outcome,
    asked_of,
    decided,
    make_check,
)
from rlaif.evals.audit_families import Judged, common, family_of, judged, preference_leakage
from rlaif.evals.audit_thresholds import Thresholds
from rlaif.evals.audit_trials import READS_ALONE, WITHOUT_DRAWS, Trial
from rlaif.specs.items import read_data
from rlaif.specs.shipped import shipped_dir
from rlaif.store.runs import read_candidates
from rlaif.types import Comparison, JudgeRef, Verdict, as_dict

TRIALS: tuple[Trial, ...] = get_args(Trial)
_NEEDS_ORDER = ("position_flipped", "position_first", "identical_responses")
_NEEDS_DRAWS = ("repeatability",)


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found."""

    judge: JudgeRef
    thresholds: str
    """Name of the thresholds."""
    strict: bool
    checks: tuple[Check, ...]
    skipped: tuple[tuple[str, str], ...]
    """(check, why it says nothing about this judge)."""
    n: int
    """Comparisons asked."""
    coverage: float
    causes: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The audit as `--json` prints it."""
        return {
            "judge": as_dict(self.judge),
            "thresholds": self.thresholds,
            "strict": self.strict,
            "n": self.n,
            "coverage": self.coverage,
            "causes": self.causes,
            "checks": [check.as_dict() for check in self.checks],
            "skipped": [{"name": name, "why": why} for name, why in self.skipped],
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Worst:
    """A verdict that counts against the judge."""

    check: str
    outcome: float
    verdict: Verdict


def probe_path() -> Path:
    """The labeled pairs that come with rlaif: easy ones, balanced in position and length."""
    return shipped_dir("quickstart") / "probe.jsonl"


def read_pairs(path: Path, *, limit: int | None = None) -> Iterator[Comparison]:
    """The pairs of a DATA file, or all of the candidates of a run of `generate`, one at a time.

    Raises:
        SpecError: the file cannot be read, or a row does not fit: names line and field.
    """
    if path.name == "candidates.jsonl" or (path / "candidates.jsonl").exists():
        for item, candidates in islice(read_candidates(path), limit):
            yield from pair_up(item, candidates, "all", seed=0)
        return
    for item, (a, b) in read_data(path, "compare", limit=limit):
        yield Comparison(item, a, b)


def says_nothing(method: str) -> Mapping[str, str]:
    """The checks that say nothing about a judge that asks by `method`, and why."""
    found = {}
    if method.startswith(READS_ALONE):
        found = dict.fromkeys(_NEEDS_ORDER, "this judge reads each response alone")
    if method.startswith(WITHOUT_DRAWS):
        found |= dict.fromkeys(_NEEDS_DRAWS, "this judge reads numbers off its model, and no draw")
    return found


def trials_for(thresholds: Thresholds, method: str = "") -> tuple[Trial, ...]:
    """The trials that the checks to be made of a judge need, by the `method` of its verdicts."""
    unsaid = says_nothing(method)
    made = [name for name in SPECS if name not in thresholds.skip and name not in unsaid]
    needed = {SPECS[name].trial for name in made}
    if "repeat" in needed or None in needed:
        needed.add("pair")
    return tuple(trial for trial in TRIALS if trial in needed)


def audit_verdicts(
    verdicts: Iterable[Verdict],
    thresholds: Thresholds,
    *,
    other: Iterable[Verdict] = (),
) -> Audit:
    """The checks of one judge over the verdicts of its audit.

    Args:
        verdicts: All that `build_trials` asked, in any order.
        thresholds: What the judge is held to.
        other: Verdicts of a second judge on the same pairs, for preference leakage.

    Raises:
        DataError: there are no verdicts, they are not comparisons of one judge, or every check
            is skipped.
    """
    rows = list(verdicts)
    if not rows:
        raise DataError("an audit without verdicts says nothing")
    if any(v.kind != "comparison" for v in rows):
        raise DataError("an audit reads comparisons only")
    if len({v.judge for v in rows}) > 1:
        raise DataError("the verdicts are by several judges: audit one at a time")
    judge = rows[0].judge
    checks: list[Check] = []
    skipped: list[tuple[str, str]] = []
    unsaid = says_nothing(judge.method)
    for name in SPECS:
        if name in thresholds.skip:
            skipped.append((name, "the thresholds file says so"))
        elif name in unsaid:
            skipped.append((name, unsaid[name]))
        else:
            check, why = make_check(name, rows, thresholds)
            if check is None:
                skipped.append((name, why))
            else:
                checks.append(check)
    leaked = _leakage(rows, list(other), thresholds)
    if isinstance(leaked, Check):
        checks.append(leaked)
    else:
        skipped.append((LEAKAGE, leaked))
    if not checks:
        raise DataError("every check is skipped: an audit without checks says nothing")
    causes = Counter(v.cause for v in rows if v.cause is not None)
    return Audit(
        judge=judge,
        thresholds=thresholds.name,
        strict=thresholds.strict,
        checks=tuple(checks),
        skipped=tuple(skipped),
        n=len(rows),
        coverage=1 - causes.total() / len(rows),
        causes=dict(sorted(causes.items())),
    )


def _leakage(
    rows: Sequence[Verdict], other: Sequence[Verdict], thresholds: Thresholds
) -> Check | str:
    """The check of preference leakage, or why there is none."""
    if LEAKAGE in thresholds.skip:
        return "the thresholds file says so"
    if not other:
        return "it needs a second judge's verdicts on the same pairs (--with RUN)"
    own = thresholds.families
    families = (family_of(rows[0].judge.model, own), family_of(other[0].judge.model, own))
    mine, second = families
    if mine is None or second is None or mine == second:
        names = f"{rows[0].judge.model} and {other[0].judge.model}"
        return f"the judges {names} are not of two known families"
    first, theirs = common(*(_named(verdicts) for verdicts in (rows, other)))
    present = {family_of(m, own) for j in first for m in (j.model_a, j.model_b)}
    if not {mine, second} <= present:
        return f"no pair that both judged has responses of {mine} and of {second}"
    try:
        value, low, high, n = preference_leakage(first, theirs, (mine, second), own)
    except DataError as error:
        return str(error)
    pairs = [v for v in rows if asked_of(v).trial == "pair"]
    return decided(LEAKAGE, LEAKAGE_WHAT, n, (low, value, high), thresholds, pairs)


def _named(verdicts: Sequence[Verdict]) -> list[Judged]:
    """The outcomes of the pairs as they are, between named models."""
    asked = ((asked_of(v), v) for v in verdicts if v.kind == "comparison")
    found = (judged(v, one.of) for one, v in asked if one.trial == "pair")
    return [one for one in found if one is not None]


def worst_examples(audit: Audit, n: int = 6) -> list[Worst]:
    """Up to `n` verdicts that count most against the judge, failed checks first and in turn."""
    failed = [_against(check) for check in audit.checks if not check.passed]
    others = [_against(check) for check in audit.checks if check.passed]
    found: list[Worst] = []
    seen: set[str] = set()
    for group in (failed, others):
        for row in zip_longest(*group):
            for one in row:
                if one is not None and one.verdict.id not in seen and len(found) < n:
                    seen.add(one.verdict.id)
                    found.append(one)
    return found


def _against(check: Check) -> list[Worst]:
    """The verdicts on the wrong side of the check's bounds, the worst first."""
    bounds = check.bounds

    def beyond(outcome: Outcome) -> float:
        over = outcome.value - bounds.most if bounds.most is not None else 0.0
        under = bounds.least - outcome.value if bounds.least is not None else 0.0
        return max(over, under)

    wrong = [outcome for outcome in check.outcomes if beyond(outcome) > 0]
    wrong.sort(key=beyond, reverse=True)
    return [Worst(check.name, outcome.value, outcome.verdict) for outcome in wrong]
