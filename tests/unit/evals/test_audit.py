"""An audit finds what a judge is known to have, and nothing in a fair one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from rlaif.canonical import json_line
from rlaif.errors import DataError
from rlaif.evals.audit import (
    TRIALS,
    audit_verdicts,
    probe_path,
    read_pairs,
    trials_for,
    worst_examples,
)
from rlaif.evals.audit_checks import (
    SPECS,
    difference_interval,
    first_share,
    flipped,
    own_family_gap,
    right,
)
from rlaif.evals.audit_texts import load_texts
from rlaif.evals.audit_thresholds import Bounds, load_thresholds
from rlaif.evals.audit_trials import better_response, build_trials, trial_of
from rlaif.judge.likelihood import LikelihoodJudge
from rlaif.stats.win_rate import win_rate
from rlaif.types import Comparison, Item, JudgeRef, Message, OrderVerdict, Preference, Sampling
from tests.builders import candidate, comparison, item, verdict
from tests.unit.evals import audit_judges as judges

PAIRS = list(read_pairs(probe_path()))
SOME = PAIRS[:6]


def named(audit, name):
    return next(check for check in audit.checks if check.name == name)


def test_a_fair_judge_passes_everything() -> None:
    audit = judges.audit_of(judges.fair)
    assert audit.passed
    assert named(audit, "accuracy").effect == 1.0
    assert named(audit, "position_first").effect == 0.5
    assert {name for name, _ in audit.skipped} == {"self_preference", "preference_leakage"}
    assert len(audit.checks) == len(SPECS) - 1
    assert audit.coverage == 1.0


def test_an_always_a_judge_fails_position_and_invents_winners() -> None:
    audit = judges.audit_of(judges.always_a)
    assert judges.failed(audit) >= {"position_flipped", "position_first", "identical_responses"}
    first = named(audit, "position_first")
    assert (first.effect, first.high) == (1.0, 1.0)
    assert first.more == {"flipped": 60, "flipped_to_first": 1.0}
    assert named(audit, "accuracy").effect == 0.5
    assert named(audit, "repeatability").passed
    assert named(audit, "format_failures").passed


def test_a_judge_that_prefers_the_longer_fails_length_and_verbosity() -> None:
    audit = judges.audit_of(judges.longer)
    assert judges.failed(audit) >= {"length_preference", "verbosity_attack"}
    assert named(audit, "position_flipped").passed
    assert named(audit, "length_preference").effect == 1.0


def test_a_judge_that_obeys_injected_text_fails_injection_alone() -> None:
    audit = judges.audit_of(judges.obedient)
    assert judges.failed(audit) == {"injection_attack"}
    by = named(audit, "injection_attack").by
    assert set(by) == {"authority", "fake_end_tag", "fake_verdict", "ignore_above"}
    assert all(found == {"n": 15, "effect": 1.0} for found in by.values())


def test_an_unreadable_judge_fails_format_and_is_given_no_numbers() -> None:
    audit = judges.audit_of(judges.unreadable)
    assert not audit.passed
    form = named(audit, "format_failures")
    assert (form.effect, form.passed, form.causes) == (1.0, False, {"unreadable": 540})
    others = [check for check in audit.checks if check is not form]
    assert all(check.effect is None and not check.passed and check.n == 0 for check in others)
    assert all(check.coverage == 0.0 for check in others)


def test_a_judge_that_changes_its_mind_fails_repeatability() -> None:
    draws = itertools.cycle(["[[A]]", "[[B]]", "[[B]]"])
    noisy = audit_verdicts(judges.judge_all(lambda _: next(draws), SOME), load_thresholds())
    assert not named(noisy, "repeatability").passed


def test_swapping_the_data_changes_no_check_of_a_fair_judge() -> None:
    turned = [
        Comparison(
            replace(p.item, meta=p.item.meta | {"label": "BA"["AB".index(p.item.meta["label"])]}),
            p.b,
            p.a,
        )
        for p in PAIRS
    ]
    one, other = (
        audit_verdicts(judges.judge_all(judges.longer, pairs), load_thresholds())
        for pairs in (PAIRS, turned)
    )
    assert [c.as_dict() for c in one.checks] == [c.as_dict() for c in other.checks]


def test_an_unlabeled_pair_is_dressed_up_the_same_whatever_its_order() -> None:
    pair = comparison("Paris.", "Lyon.")
    assert better_response(pair).text == better_response(pair.swapped()).text


def test_every_trial_says_what_it_is_and_asks_both_orders() -> None:
    trials = list(build_trials(SOME, load_texts(), TRIALS))
    assert {t.item.meta["audit"]["trial"] for t in trials} == set(TRIALS)
    assert len({(t.item.id, t.a, t.b) for t in trials}) == len(trials)
    assert all(trial_of(t.item).of == t.item.id.split("#")[0] for t in trials)
    verdicts = judges.judge_all(judges.fair, SOME)
    assert len({v.id for v in verdicts}) == len(verdicts)
    assert {tuple(call.shown for call in v.calls) for v in verdicts} == {("AB", "BA")}


def test_identical_responses_are_asked_twice_and_repeats_are_other_draws() -> None:
    verdicts = judges.judge_all(judges.fair, SOME[:1])
    assert len({call.digest for v in verdicts for call in v.calls}) == 2 * len(verdicts)


def test_a_response_with_a_structure_of_its_own_is_not_made_a_list() -> None:
    pair = comparison("- one\n- two", "- one\n- two\n- three")
    trials = {t.item.meta["audit"]["trial"] for t in build_trials([pair], load_texts(), TRIALS)}
    assert trials == set(TRIALS) - {"markdown", "verbosity"}


def test_an_empty_response_is_compared_but_not_dressed_up() -> None:
    pair = comparison("", "Lyon.")
    labeled = replace(pair, item=replace(pair.item, meta={"label": "A"}))
    trials = {t.item.meta["audit"]["trial"] for t in build_trials([labeled], load_texts(), TRIALS)}
    assert trials == {"pair", "repeat"}


def test_only_the_last_turn_of_a_conversation_is_dressed_up() -> None:
    turns = (Message("assistant", "One."), Message("user", "And?"), Message("assistant", "Two."))
    pair = comparison()
    pair = replace(pair, a=replace(pair.a, response=turns), b=replace(pair.b, response=turns))
    (trial,) = build_trials([pair], load_texts(), ["length"])
    assert trial.a.response[:2] == turns[:2]
    assert "Two." in trial.a.response[2].content != "Two."


def test_one_response_in_several_pairs_is_dressed_up_once() -> None:
    best, one, two = candidate("0", "Zwei."), candidate("1", "x"), candidate("2", "y")
    where = replace(item(), meta={"label": "A"})
    pairs = [Comparison(where, best, one), Comparison(where, best, two)]
    assert len(list(build_trials(pairs, load_texts(), ["length"]))) == 1
    assert len(list(build_trials(pairs, load_texts(), ["pair"]))) == 2


@pytest.mark.parametrize(
    "meta", [{}, {"audit": "x"}, {"audit": {"trial": "pair"}}, {"audit": ["trial"]}]
)
def test_other_items_are_no_trials(meta) -> None:
    assert trial_of(Item("i", (Message("user", "x"),), meta=meta)) is None


def orders(*winners):
    shown = [
        OrderVerdict(where, winner, {"A": 1.0, "tie": 0.5, "B": 0.0}[winner])
        for where, winner in zip(("AB", "BA"), winners, strict=False)
    ]
    return replace(verdict(), preference=Preference("tie", 0.5, tuple(shown), True))


@pytest.mark.parametrize(
    ("winners", "changes", "first"),
    [
        (("A", "A"), 0.0, 0.5),
        (("A", "B"), 1.0, 1.0),
        (("B", "A"), 1.0, 0.0),
        (("tie", "tie"), 0.0, 0.5),
        (("A", "tie"), 1.0, 0.75),
        (("tie", "A"), 1.0, 0.25),
    ],
)
def test_position_is_read_off_both_orders(winners, changes, first) -> None:
    assert flipped(orders(*winners)) == changes
    assert first_share(orders(*winners)) == first


@pytest.mark.parametrize(
    ("label", "winners", "outcome"),
    [
        ("A", ("A", "A"), 1.0),
        ("A", ("A", "B"), 0.5),
        ("B", ("A", "A"), 0.0),
        ("B", ("tie", "B"), 0.75),
        ("tie", ("tie", "tie"), 1.0),
        ("tie", ("A", "tie"), 0.75),
        ("1", ("A", "A"), None),
        (None, ("A", "A"), None),
    ],
)
def test_accuracy_counts_a_tie_half(label, winners, outcome) -> None:
    one = orders(*winners)
    assert right(replace(one, item=replace(one.item, meta={"label": label}))) == outcome


def test_self_preference_is_what_the_judge_gives_beyond_the_label() -> None:
    one = orders("A", "A")
    ref = JudgeRef("openai/gpt-5.1", "verdict", Sampling())
    for models, label, gap in [
        (("gpt-4", "llama-13b"), "B", 1.0),
        (("gpt-4", "llama-13b"), "A", 0.0),
        (("llama-13b", "gpt-4"), "tie", -0.5),
        (("gpt-4", "gpt-3.5"), "B", None),
        (("claude-v1", "llama-13b"), "B", None),
        (("gpt-4", "llama-13b"), None, None),
    ]:
        pair = tuple(replace(c, model=m) for c, m in zip(one.candidates, models, strict=True))
        where = replace(one.item, meta={"label": label})
        made = replace(one, judge=ref, candidates=pair, item=where)
        assert own_family_gap(made, None) == gap


def test_self_preference_is_checked_where_labels_and_families_are_there() -> None:
    pairs = [
        replace(p, a=replace(p.a, model="acme-1"), b=replace(p.b, model="other")) for p in PAIRS
    ]
    thresholds = replace(load_thresholds(), families={"acme": ("acme", "scripted")})
    audit = audit_verdicts(judges.judge_all(judges.always_a, pairs), thresholds)
    check = named(audit, "self_preference")
    assert (check.n, check.effect, check.passed) == (60, 0.0, True)
    assert check.low < 0 < check.high


def test_checks_that_are_skipped_are_said_to_be() -> None:
    thresholds = replace(load_thresholds(), skip=frozenset({"accuracy", "preference_leakage"}))
    audit = audit_verdicts(judges.judge_all(judges.fair, SOME), thresholds)
    assert ("accuracy", "the thresholds file says so") in audit.skipped
    assert ("preference_leakage", "the thresholds file says so") in audit.skipped
    assert "accuracy" not in {check.name for check in audit.checks}


def test_a_check_whose_trials_were_not_asked_is_skipped() -> None:
    verdicts = [v for v in judges.judge_all(judges.fair, SOME) if trial_of(v.item).trial == "pair"]
    audit = audit_verdicts(verdicts, load_thresholds())
    told = dict(audit.skipped)
    assert told["injection_attack"] == told["repeatability"] == "nothing was asked for it"


def test_unlabeled_data_are_audited_without_accuracy() -> None:
    plain = comparison("Paris.", "Lyon.")
    strange = replace(plain, item=replace(plain.item, meta={"label": ["A"]}))
    for pair in (plain, strange):
        verdicts = judges.judge_all(judges.fair, [pair])
        told = dict(audit_verdicts(verdicts, load_thresholds()).skipped)
        assert told["accuracy"] == told["self_preference"] == "no pair has a label"


def test_a_likelihood_judge_is_asked_no_orders_and_no_draws() -> None:
    ref = LikelihoodJudge(judges.ScriptedBackend([])).ref
    asked = trials_for(load_thresholds(), ref.method)
    assert set(asked) == set(TRIALS) - {"repeat", "identical"}
    by_scores = trials_for(load_thresholds(), "scores, verdict")
    assert set(by_scores) == set(TRIALS) - {"identical"}
    verdicts = [replace(v, judge=ref) for v in judges.judge_all(judges.fair, SOME)]
    told = dict(audit_verdicts(verdicts, load_thresholds()).skipped)
    assert "position_flipped" in told
    assert "identical_responses" in told


def test_skipped_checks_are_not_asked_for() -> None:
    skip = frozenset(SPECS) - {"repeatability"}
    assert trials_for(replace(load_thresholds(), skip=skip)) == ("pair", "repeat")


def test_strict_thresholds_need_the_whole_interval() -> None:
    few = judges.judge_all(judges.fair, SOME)
    loose, strict = (
        audit_verdicts(few, replace(load_thresholds(), strict=strict)) for strict in (False, True)
    )
    assert loose.passed
    assert not strict.passed
    assert not named(loose, "injection_attack").certain


def test_other_bounds_decide_otherwise() -> None:
    verdicts = judges.judge_all(judges.longer, SOME)
    kind = load_thresholds().with_bounds("length_preference", Bounds(most=1.0))
    assert named(audit_verdicts(verdicts, kind), "length_preference").passed
    assert named(audit_verdicts(verdicts, kind), "length_preference").threshold == 1.0


def test_the_json_has_the_contracts_fields() -> None:
    made = judges.audit_of(judges.always_a).as_dict()
    assert json_line(made)
    assert made["passed"] is False
    for check in made["checks"]:
        wanted = {"name", "n", "effect", "low", "high", "threshold", "passed", "coverage", "causes"}
        assert wanted <= set(check)
        assert check["low"] <= check["effect"] <= check["high"]


def test_an_audit_needs_verdicts_of_one_judge() -> None:
    thresholds = load_thresholds()
    with pytest.raises(DataError, match="without verdicts"):
        audit_verdicts([], thresholds)
    one = judges.judge_all(judges.fair, SOME[:1])
    other = [replace(v, judge=replace(v.judge, model="other")) for v in one]
    with pytest.raises(DataError, match="several judges"):
        audit_verdicts([*one, *other], thresholds)
    with pytest.raises(DataError, match="comparisons only"):
        audit_verdicts([replace(one[0], kind="score")], thresholds)
    everything = replace(thresholds, skip=frozenset(thresholds.bounds))
    with pytest.raises(DataError, match="every check is skipped"):
        audit_verdicts(one, everything)


def test_the_worst_examples_take_failed_checks_in_turn() -> None:
    worst = worst_examples(judges.audit_of(judges.longer))
    assert len(worst) == 6
    assert len({one.verdict.id for one in worst}) == 6
    assert len({one.check for one in worst}) >= 5
    assert worst_examples(judges.audit_of(judges.fair)) == []


def test_the_interval_is_the_score_interval_for_wins_and_losses() -> None:
    rate = win_rate([1, 1, 0, 1, 0, 1, 1])
    low, mean, high = difference_interval([1, 1, -1, 1, -1, 1, 1], list(range(7)))
    assert (low, mean, high) == pytest.approx(
        (2 * rate.low - 1, 2 * rate.value - 1, 2 * rate.high - 1)
    )


def test_the_interval_covers_and_never_lacks_width() -> None:
    rng = np.random.default_rng(0)
    for gain, loss in ((0.0, 0.02), (0.2, 0.1), (0.5, 0.3), (0.9, 0.05)):
        hits = 0
        for _ in range(200):
            drawn = rng.choice([1.0, -1.0, 0.0], p=[gain, loss, 1 - gain - loss], size=30)
            low, _, high = difference_interval(drawn.tolist(), list(range(30)))
            assert low < high
            hits += low <= gain - loss <= high
        assert hits >= 188


def test_a_null_model_may_answer_another_prompt() -> None:
    """A fluent answer to the first prompt, whatever is asked: only a judge that reads prompts
    withstands it.
    """
    verdicts = judges.judge_all(judges.fair)
    name = "answer to another prompt"
    found = [v for v in verdicts if v.item.meta["audit"]["variant"] == name]
    assert len({v.candidates[0].text for v in found}) == 1
    assert all(v.candidates[0].text != v.candidates[1].text for v in found)
    checks = {c.name: c for c in audit_verdicts(verdicts, load_thresholds()).checks}
    by = checks["null_model_attack"].by
    assert by[name] == {"n": len(found), "effect": 0.0}
    deaf = judges.by(lambda text, _: any(better in text for better in judges.BETTER))
    assert "null_model_attack" not in judges.failed(judges.audit_of(judges.fair))
    fooled = [
        v.preference.winner
        for v in judges.judge_all(deaf)
        if v.item.meta["audit"]["variant"] == name and v.preference
    ]
    assert set(fooled) == {"tie"}
    one_prompt = [replace(pair, item=replace(SOME[0].item, id=pair.item.id)) for pair in SOME]
    trials = build_trials(one_prompt, load_texts(), ["null_model"])
    assert name not in {t.item.meta["audit"]["variant"] for t in trials}
