from __future__ import annotations

from dataclasses import replace

from rlaif.evals.audit import audit_verdicts
from rlaif.evals.audit_thresholds import load_thresholds
from rlaif.report.audit_card import audit_page
from rlaif.report.page import render_page
from tests.builders import comparison
from tests.unit.evals import audit_judges as judges
from tests.unit.report.test_page import HOSTILE, Reader


def card(audit) -> Reader:
    return Reader(render_page(audit_page(audit, "shipped pairs")))


def test_a_fair_judges_card_says_so_and_has_no_examples() -> None:
    reader = card(judges.audit_of(judges.fair))
    assert "Passes every check" in reader.text
    assert len(reader.all("span", class_="badge pass")) == 11
    assert not reader.all("details")
    assert any("Less than certain" in text for text in reader.text)


def test_a_failing_judges_card_names_what_failed_and_shows_six_examples() -> None:
    reader = card(judges.audit_of(judges.longer))
    assert "Fails 6 of 11" in reader.text
    assert len(reader.all("span", class_="badge fail")) == 6
    entries = [found for found in reader.all("details") if "entry" in found.get("class", "")]
    assert len(entries) == 6


def test_an_unreadable_judges_card_measures_nothing() -> None:
    reader = card(judges.audit_of(judges.unreadable))
    assert reader.text.count("not measured") == 10
    assert "540 unreadable" in reader.text


def test_a_strict_audit_says_so() -> None:
    thresholds = replace(load_thresholds(), strict=True)
    assert "whole intervals in bounds" in card(judges.audit_of(judges.fair, thresholds)).text


def test_hostile_names_and_texts_stay_text() -> None:
    pair = comparison(HOSTILE, HOSTILE + "x", name=HOSTILE)
    verdicts = judges.judge_all(judges.always_a, [pair], model=f"scripted/{HOSTILE}")
    reader = card(audit_verdicts(verdicts, load_thresholds()))
    tags = {tag for tag, _ in reader.elements}
    assert not {"script", "img", "iframe"} & tags
    assert not [n for _, found in reader.elements for n in found if n.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in "".join(reader.text)
