"""Queues: who is asked about what, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import SpecError, StoreError
from rlaif.judge.cascade import is_escalated
from rlaif.service.index import NAME, VerdictIndex, build, is_indexed
from rlaif.service.queues import QUEUES, gold_of
from rlaif.service.tasks import Campaign, Turn, Wanted, campaign_from, wanted_from
from rlaif.types import Call, Item, JudgeRef, MemberVerdict, Sampling, Usage, Verdict
from tests.builders import verdict
from tests.unit.service.test_pages import write
from tests.unit.service.test_ratings import scored

CALL = Call("0" * 64, "[[A]]", Usage(), 0.1, cached=False)


def several(name: str, *p_as: float | None, at: float | None = None, **more: Any) -> Verdict:
    """A verdict of a panel, or of a cascade at a threshold, of judges who said these P(A)."""
    refs = tuple(JudgeRef(f"judge-{n}", "verdict", Sampling()) for n in range(max(2, len(p_as))))
    method = "panel mean" if at is None else f"cascade at {at:g}"
    judge = JudgeRef("several", method, Sampling(), None, refs)
    last = verdict(name, p_as[-1], item_id=name, **more)
    said = [verdict(name, p) for p in p_as]
    members = tuple(
        MemberVerdict(n, 0, one.cause, preference=one.preference) for n, one in enumerate(said)
    )
    return replace(last, judge=judge, members=members, calls=(CALL,))


def index_of(folder: Path, *verdicts: Verdict) -> VerdictIndex:
    write(folder, *verdicts)
    build(folder)
    return VerdictIndex(folder)


def test_each_queue_holds_what_it_says_in_its_order(tmp_path: Path) -> None:
    verdicts = [
        verdict("v1", 0.95, item_id="i1"),
        verdict("v2", 0.55, item_id="i2"),
        verdict("v3", None, item_id="i3"),
        several("v4", 0.9, 0.2),
        several("v5", 0.9, 0.8),
        several("v6", 0.4, 0.6, at=0.9),
        several("v7", 0.95, at=0.9),
    ]
    with index_of(tmp_path / "run", *verdicts) as index:
        queues = index.queues
        assert queues.sizes() == {
            "random": 7, "unsure": 2, "split": 2, "escalated": 1, "failed": 1,
        }  # fmt: skip
        assert sorted(queues.places("random")) == [1, 2, 3, 4, 5, 6, 7]
        assert list(queues.places("unsure")) == [2, 6]
        assert list(queues.places("unsure", 0.9)) == [2, 6, 4, 5]
        assert list(queues.places("split")) == [4, 6]
        assert list(queues.places("escalated")) == [6]
        assert list(queues.places("failed")) == [3]
        assert list(queues.places("against")) == []
        assert queues.of_item("i3") == [3]
        said = queues.said([1, 3, 99])
        assert (said[1].winner, said[3].value, 99 in said) == ("A", None, False)


def test_two_runs_that_disagree_make_a_queue_furthest_first(tmp_path: Path) -> None:
    ours = [verdict(f"v{n}", p, item_id=f"i{n}") for n, p in enumerate((0.9, 0.6, 0.4, 0.9))]
    theirs = [verdict(f"w{n}", p, item_id=f"i{n}") for n, p in enumerate((0.1, 0.7, 0.9, None))]
    turned = replace(theirs[1], candidates=theirs[1].candidates[::-1])
    other = tmp_path / "other"
    index_of(other, theirs[0], turned, *theirs[2:]).__exit__(None, None, None)
    with index_of(tmp_path / "run", *ours) as index:
        found = list(index.queues.places("against", other=other / NAME))
        assert found == [1, 3, 2]
        assert index.queues.sizes(other=other / NAME)["against"] == 3
    (tmp_path / "none").mkdir()
    with VerdictIndex(tmp_path / "run") as index, pytest.raises(StoreError, match="no index"):
        index.queues.sizes(other=tmp_path / "none" / NAME)


def test_scores_disagree_by_a_quarter_of_their_scale(tmp_path: Path) -> None:
    def run(name: str, *values: float) -> Path:
        made = [
            replace(scored(value), id=f"v{n}", item=Item(f"i{n}", scored().item.prompt))
            for n, value in enumerate(values)
        ]
        index_of(tmp_path / name, *made).__exit__(None, None, None)
        return tmp_path / name / NAME

    other = run("other", 4, 4.9, 1)
    run("run", 3, 4, 5)
    with VerdictIndex(tmp_path / "run") as index:
        assert list(index.queues.places("against", other=other)) == [3, 1]


def test_what_a_cascade_leaves_to_people() -> None:
    assert is_escalated(several("v", 0.6, 0.7, at=0.9))
    assert is_escalated(several("v", 0.6, None, at=0.9))
    assert not is_escalated(several("v", 0.6, 0.95, at=0.9))
    assert not is_escalated(several("v", 0.95, at=0.9))
    assert not is_escalated(several("v", 0.6, 0.7))
    spent = replace(several("v", 0.6, None, at=0.9), cause="budget")
    assert not is_escalated(spent)
    assert not is_escalated(replace(several("v", 0.5, 0.5, at=0.9), calls=()))  # the same text
    odd = several("v", 0.6, 0.7, at=0.9)
    assert not is_escalated(replace(odd, judge=replace(odd.judge, method="cascade at will")))


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    import sqlite3

    index_of(tmp_path / "run", verdict()).__exit__(None, None, None)
    assert is_indexed(tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / NAME) as db:
        db.execute("UPDATE made_of SET version = 1")
    db.close()
    assert not is_indexed(tmp_path / "run")
    assert not is_indexed(tmp_path)


def test_gold_is_what_it_can_be() -> None:
    def known(made: Verdict, gold: object) -> object:
        return gold_of(replace(made, item=replace(made.item, meta={"gold": gold})))

    assert known(verdict(), "tie") == "tie"
    assert known(verdict(), "first") is None
    assert known(scored(), 4) == [4.0]
    assert known(scored(), [4, 5]) == [4.0, 5.0]
    assert known(scored(), {"clarity": 4}) == {"clarity": [4.0]}
    for bad in (True, "4", [], [4, "5"], {}, {"clarity": None}):
        assert known(scored(), bad) is None


def test_a_person_gets_what_is_left_and_no_more_than_wanted(tmp_path: Path) -> None:
    gold = verdict("v5", 0.9, item_id="i5")
    gold = replace(gold, item=replace(gold.item, meta={"gold": "A"}))
    plain = [verdict(f"v{n}", 0.6, item_id=f"i{n}") for n in range(1, 5)]
    with index_of(tmp_path / "run", *plain, gold) as index:
        queues, wanted = index.queues, Wanted("unsure")
        first = Turn("run", "anna", (), {}, Campaign()).next(queues, wanted)
        assert (first.n, first.left) == (1, 4)
        later = Turn("run", "anna", {1}, {2: 2, 3: 1}, Campaign(overlap=2)).next(queues, wanted)
        assert (later.n, later.left) == (3, 2)
        none = Turn("run", "anna", {1, 2, 3, 4}, {}, Campaign(gold_every=2)).next(queues, wanted)
        assert (none.n, none.left) == (None, 0)
        drawn = [
            Turn("run", f"person-{k}", (), {5: 9}, Campaign(1, 4)).next(queues, wanted).n
            for k in range(200)
        ]
        assert 25 < drawn.count(5) < 80
        assert drawn.count(5) + drawn.count(1) == 200
        seen = Turn("run", "anna", {5}, {}, Campaign(gold_every=2)).next(queues, wanted)
        assert seen.n == 1


def test_what_a_request_wants_is_checked() -> None:
    assert wanted_from({}) == Wanted()
    assert wanted_from({"queue": "against", "other": "x"}).other == "x"
    for asked, field in (
        ({"queue": "x"}, "queue"),
        ({"sure": "0"}, "sure"),
        ({"sure": "nan"}, "sure"),
        ({"sure": "x"}, "sure"),
        ({"queue": "against"}, "other"),
    ):
        with pytest.raises(SpecError) as error:
            wanted_from(asked)
        assert error.value.field == field
    assert campaign_from({"overlap": 2.0}) == Campaign(2)
    for body in ({"overlap": 0}, {"gold_every": 1}, {"overlap": True}, {"gold_every": "3"}):
        with pytest.raises(SpecError):
            campaign_from(body)
    assert set(QUEUES) >= {"random", "against"}
