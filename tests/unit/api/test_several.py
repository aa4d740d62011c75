"""Panels, cascades, rubrics of items, all methods and batches from Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.backends.batched import BatchedBackend
from rlaif.backends.opening import layers
from rlaif.errors import ConfigError, SpecError
from tests.batch_wire import BatchServer
from tests.builders import rubric

PAIRS = [
    {"prompt": f"Say {n}.", "response_a": "gold", "response_b": "lead", "model_a": "m1",
     "model_b": "m2"} for n in range(3)
]  # fmt: skip
NAMES = ("one", "two")
RESPONSES = [{"prompt": f"Say {n}.", "response": "gold"} for n in range(2)]


def fair(request: rlaif.Request) -> str:
    text = request.messages[-1].content
    return "[[A]]" if text.index("gold") < text.index("lead") else "[[B]]"


def named(name: str, script: Any = fair) -> rlaif.ScriptedBackend:
    return rlaif.ScriptedBackend(script, model=f"scripted/{name}")


def unfair(request: rlaif.Request) -> str:
    return "[[B]]" if fair(request) == "[[A]]" else "[[A]]"


def mute(request: rlaif.Request) -> str:
    return "I cannot say."


def test_several_models_are_a_panel() -> None:
    three = [named("one"), named("two"), named("three", unfair)]
    with rlaif.Judge(three, rubric(), panel="vote") as judge:
        verdicts = judge.compare(PAIRS)
    assert [v.preference and v.preference.winner for v in verdicts] == ["A"] * 3
    assert [len(v.members or ()) for v in verdicts] == [3] * 3
    assert verdicts.summary["panel"]["members"] == [b.model for b in three]
    assert str(verdicts.table()).startswith("comparisons by panel(scripted/one, ")
    assert all(backend.closed for backend in three)
    assert repr(judge) == (
        "Judge('scripted/one', 'scripted/two', 'scripted/three', 'test', method='auto')"
    )


def test_each_model_judges_by_each_rubric() -> None:
    other = replace(rubric(), name="other")
    judge = rlaif.Judge(named("one", lambda r: "[[4]]"), [rubric(), other], weights=[3, 1])
    [first, _] = judge.score(RESPONSES)
    assert [ref.rubric and ref.rubric.name for ref in first.judge.members or ()] == [
        "test",
        "other",
    ]
    assert "weights 3, 1" in first.judge.method


def test_weights_are_estimated_from_the_votes_of_the_run() -> None:
    def wavers(request: rlaif.Request) -> str:
        return unfair(request) if "Say 1" in request.messages[1].content else fair(request)

    three = [named("one"), named("two"), named("three", wavers)]
    verdicts = rlaif.Judge(three, rubric(), weights="estimated").compare(PAIRS)
    weights = verdicts.summary["panel"]["weights"]
    assert weights[0] == weights[1] > weights[2]
    assert verdicts[1].preference is not None
    assert verdicts[1].preference.p_a == pytest.approx(sum(weights[:2]) / sum(weights))
    silent = [named(name, mute) for name in ("one", "two", "three")]
    alike = rlaif.Judge(silent, rubric(), weights="estimated").compare(PAIRS)
    assert alike.summary["panel"]["weights"] is None
    assert alike.summary["panel"]["why_alike"]


def test_a_missing_judge_is_replaced() -> None:
    judge = rlaif.Judge(
        [named("one"), named("two", mute)], rubric(), substitute=[named("three")], min_valid=2
    )
    verdicts = judge.compare(PAIRS)
    assert verdicts.coverage == 1.0
    assert verdicts.summary["panel"]["replaced"] == 3
    alone = rlaif.Judge([named("one"), named("two", mute)], rubric(), substitute=named("three"))
    assert alone.compare(PAIRS).coverage == 1.0
    rewards = rlaif.ScriptedBackend([], model="reward/x")
    stands_in = rlaif.Judge([named("one"), named("two")], rubric(), substitute=[rewards])
    with pytest.raises(ConfigError, match="rewards and checklists are no grades to combine"):
        stands_in.score(RESPONSES)


def test_a_cascade_asks_the_next_one_where_the_first_is_not_sure() -> None:
    def sides_with_first(request: rlaif.Request) -> str:
        return "[[A]]" if "Say 1" in request.messages[1].content else fair(request)

    verdicts = rlaif.Judge([named("s", sides_with_first), named("l")], rubric(), cascade=0.9)
    found = verdicts.compare(PAIRS)
    assert [v.preference and v.preference.winner for v in found] == ["A"] * 3
    stages = found.summary["cascade"]["stages"]
    assert [stage["asked"] for stage in stages] == [3, 1]
    rubrics = [rubric(), replace(rubric(), name="other")]
    with pytest.raises(ConfigError, match="cascade takes one rubric"):
        rlaif.Judge([named("s"), named("l")], rubrics, cascade=0.9).compare(PAIRS)


def test_a_panel_ranks_and_rewards() -> None:
    rows = [{"prompt": "p", "responses": ["lead", "gold"]}]
    judge = rlaif.Judge([named("one"), named("two")], rubric())
    [verdict] = judge.rank(rows, strategy="round-robin")
    assert verdict.ranking is not None
    assert verdict.ranking.order[0] == "2"
    reward = judge.reward("comparison")
    assert reward.blocking(prompts=["p", "p"], completions=["lead", "gold"]) == [-1.0, 1.0]


def test_a_list_is_ranked_in_one_prompt() -> None:
    def best_gold(request: rlaif.Request) -> str:
        text = request.messages[-1].content
        return "[[A > B]]" if text.index("gold") < text.index("lead") else "[[B > A]]"

    rows = [{"prompt": "p", "responses": ["lead", "gold"]}]
    judge = rlaif.Judge(named("one", best_gold), rubric())
    [verdict] = judge.rank(rows, strategy="listwise", shuffles=2)
    assert verdict.ranking is not None
    assert verdict.ranking.order == ("2", "1")
    assert verdict.judge.method.startswith("listwise, 2 shuffles")


def test_the_rubric_may_come_with_the_item(tmp_path: Path) -> None:
    own = {"name": "kind", "criteria": [{"name": "kind", "question": "Is it kind?",
           "scale": {"min": 1, "max": 5, "anchors": {1: "no", 5: "yes"}}}]}  # fmt: skip
    rows = [{"prompt": "p", "response": "r", "rubric": own}]
    judge = rlaif.Judge(named("one", lambda r: "[[5]]"), "item")
    [verdict] = judge.score(rows)
    assert verdict.judge.rubric is not None
    assert verdict.judge.rubric.name == "kind"
    backend = named("two", lambda r: "[[5]]")
    with pytest.raises(SpecError, match="brings no rubric"):
        rlaif.Judge(backend, "item").score([*rows, {"prompt": "p", "response": "r"}])
    assert not backend.requests
    rewards = [rlaif.ScriptedBackend([], model=f"reward/{name}") for name in NAMES]
    with pytest.raises(SpecError, match="brings no rubric"):
        rlaif.Judge(rewards, "item", substitute=[backend]).compare(PAIRS)
    with pytest.raises(SpecError, match="no such folder"):
        rlaif.Judge(named("one"), f"item:{tmp_path / 'none'}")


def test_options_are_those_of_the_command_line() -> None:
    judge = rlaif.Judge(
        named("one"), rubric(), ties="forced", levels=5, orders="AB", reask=False, max_chars=999
    )
    assert judge.pairwise().ref.method == "verdict, 5 levels, ties forced, order AB, asked once"
    with pytest.raises(ConfigError, match=r"takes no ties, levels, orders"):
        judge.score(RESPONSES)
    asked = named("writer", lambda r: "\n".join(f"QUESTION (1): Is it {x}?" for x in "abc"))
    checking = rlaif.Judge(
        named("one", lambda r: "Yes"), rubric(), method="checklist", questions_by=asked
    )
    [verdict, _] = checking.score(RESPONSES)
    assert verdict.score is not None
    assert verdict.score.value == 1.0
    assert verdict.judge.method == "checklist, questions by scripted/writer"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ([named("one")], {"panel": "vote"}, "panel is for several judges, and there is one"),
        ([], {}, "an empty list is none"),
        ([named("one")] * 2, {}, "twice"),
        (named("one"), {"tiess": "forced"}, "no option called 'tiess'; did you mean 'ties'"),
        ("scripted/x.jsonl", {"batch_poll": 1.0}, "batch_poll is for batch=True"),
        ("scripted/x.jsonl", {"batch": True}, "no batch API"),
        (["openai/x", "server/y"], {"api_key": "k"}, "one api_key is not for openai and server"),
    ],
)
def test_what_does_not_fit_is_said(
    model: Any, options: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text('{"match": "", "reply": "[[A]]"}\n')
    with pytest.raises(ConfigError, match=message):
        rlaif.Judge(model, rubric(), **options).compare(PAIRS)


def test_what_does_not_rank_or_combine_is_said() -> None:
    rows = [{"prompt": "p", "responses": ["lead", "gold"]}]
    cascade = rlaif.Judge([named("one"), named("two")], rubric(), cascade=0.9)
    with pytest.raises(ConfigError, match="cascades and estimated weights score and compare"):
        cascade.rank(rows)
    one = rlaif.Judge(named("one"), rubric())
    with pytest.raises(ConfigError, match="takes no comparisons, settle"):
        one.rank(rows, strategy="listwise", settle="top1")
    with pytest.raises(ConfigError, match="shuffles is for strategy='listwise'"):
        one.rank(rows, shuffles=2)
    lists = rlaif.Judge([named("one"), named("two")], rubric(), method="checklist")
    with pytest.raises(ConfigError, match="no grades to combine"):
        lists.score(RESPONSES)


def test_a_budget_is_shared_by_all_models(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").write_text('{"match": "", "reply": "[[A]]"}\n')
    priced = [f"  scripted/{tmp_path}/{name}.jsonl: {{input: 1, output: 1}}\n" for name in NAMES]
    (tmp_path / "prices.yaml").write_text("models:\n" + "".join(priced))
    judge = rlaif.Judge(
        [f"scripted/{tmp_path}/{name}.jsonl" for name in NAMES],
        rubric(),
        budget_usd=1e-9,
        prices=tmp_path / "prices.yaml",
    )
    verdicts = judge.compare(PAIRS)
    assert verdicts.causes == {"budget": 3}


def test_a_batch_is_asked_at_half_the_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices.yaml").write_text(
        "models:\n  openai/judge: {input: 2, output: 10, batch_discount: 0.5}\n"
    )

    def opinion(messages: list[dict[str, str]]) -> str:
        text = messages[-1]["content"]
        return "[[A]]" if text.index("gold") < text.index("lead") else "[[B]]"

    with BatchServer(opinion) as server:
        asked: dict[str, Any] = {
            "api_key": "sk-key",
            "base_url": server.url,
            "prices": tmp_path / "prices.yaml",
        }
        with rlaif.Judge("openai/judge", rubric(), batch=True, batch_poll=0.05, **asked) as judge:
            assert any(isinstance(layer, BatchedBackend) for layer in layers(judge.backend))
            verdicts = judge.compare(PAIRS, progress=False)
        [batch] = server.batches
        assert len(batch.requests) == 6
        assert [v.preference and v.preference.winner for v in verdicts] == ["A"] * 3
        with rlaif.Judge("openai/judge", rubric(), store=tmp_path / "o.db", **asked) as judge:
            live = judge.compare(PAIRS, progress=False)
        assert verdicts.cost_usd == pytest.approx(live.cost_usd / 2)
    assert "sk-key" not in json.dumps(verdicts.summary)
