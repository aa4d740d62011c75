from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.backends.base import Backend
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.opening import layers
from rlaif.errors import BudgetError, ConfigError, SpecError
from rlaif.judge.likelihood import LikelihoodJudge
from rlaif.judge.reward import RewardJudge
from rlaif.types import Completion, Request, Usage
from tests.builders import candidate, comparison, item, rubric

PAIRS = [
    {"prompt": f"Say {n}.", "response_a": "gold", "response_b": "lead", "model_a": "m1",
     "model_b": "m2"} for n in range(3)
]  # fmt: skip
RESPONSES = [
    {"id": f"q{n}", "prompt": f"Say {n}.", "response": f"It is {n}.", "model": "m1", "topic": "x"}
    for n in range(3)
]


def prefers_gold(request: Request) -> Completion:
    text = request.messages[-1].content
    said = "[[A]]" if text.index("gold") < text.index("lead") else "[[B]]"
    return Completion(said, usage=Usage(10, 0, 2), cost_usd=0.25)


def judge(script: Any = prefers_gold, **options: Any) -> rlaif.Judge:
    return rlaif.Judge(rlaif.ScriptedBackend(script), rubric(), **options)


def script_file(folder: Path, *replies: str) -> str:
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps({"match": "", "reply": one}) + "\n" for one in replies))
    return f"scripted/{path}"


def test_comparisons_from_rows() -> None:
    verdicts = judge().compare(PAIRS)
    assert [v.preference and v.preference.p_a for v in verdicts] == [1.0, 1.0, 1.0]
    assert verdicts.coverage == 1.0
    assert verdicts.cost_usd == 1.5
    assert [one["winner"] for one in verdicts.rows()] == ["A", "A", "A"]


def test_it_works_inside_a_running_loop_and_when_awaited() -> None:
    one = judge()

    async def notebook() -> tuple[int, int]:
        return len(one.compare(PAIRS)), len(await one.acompare(PAIRS))

    assert asyncio.run(notebook()) == (3, 3)
    assert len(one.compare(PAIRS)) == 3


@pytest.mark.parametrize("kind", ["list", "file", "frame", "values", "dataset"])
def test_rows_come_as_people_have_them(kind: str, tmp_path: Path) -> None:
    rows: Any = RESPONSES
    if kind == "file":
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in RESPONSES))
    elif kind == "frame":
        pandas = pytest.importorskip("pandas")
        rows = pandas.DataFrame([*RESPONSES[:2], {**RESPONSES[2], "topic": float("nan")}])
    elif kind == "values":
        rows = [(item(f"q{n}"), candidate("1", f"It is {n}.", "m1")) for n in range(3)]
    elif kind == "dataset":
        rows = pytest.importorskip("datasets").Dataset.from_list(RESPONSES)
    verdicts = judge(lambda request: "[[4]]").score(rows, progress=False)
    assert [v.item.id for v in verdicts] == ["q0", "q1", "q2"]
    assert [row["score"] for row in verdicts.rows()] == [4.0] * 3
    assert [row["model"] for row in verdicts.rows()] == ["m1"] * 3
    limited = judge(lambda request: "[[4]]").score(rows, limit=2)
    assert len(limited) == 2


def test_comparisons_come_as_values_and_from_files(tmp_path: Path) -> None:
    assert judge().compare([comparison("gold", "lead")])[0].preference is not None
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(PAIRS))
    assert len(judge().compare(str(path), limit=1)) == 1


def test_ranking(tmp_path: Path) -> None:
    def longer(request: Request) -> str:
        text = request.messages[-1].content
        a, b = (text.split(f"response_{side}>\n")[1].split("\n</")[0] for side in "ab")
        return "[[A]]" if len(a) > len(b) else "[[B]]"

    rows = [{"prompt": "p", "responses": ["a", "aaa", "aa"]}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    values = [(item(), tuple(candidate(str(n), "a" * n) for n in (1, 3, 2)))]
    for given, order in ((rows, "2 > 3 > 1"), (path, "2 > 3 > 1"), (values, "3 > 2 > 1")):
        verdicts = judge(longer).rank(given, strategy="round-robin")
        (row,) = verdicts.rows()
        assert (row["order"], row["comparisons"]) == (order, 3)


def test_no_verdict_is_counted_and_shown() -> None:
    def some(request: Request) -> str | BudgetError:
        text = request.messages[1].content
        return "?" if "Say 1" in text else BudgetError("spent") if "Say 2" in text else "[[A]]"

    verdicts = judge(some).compare(PAIRS)
    assert verdicts.coverage == pytest.approx(1 / 3)
    assert verdicts.causes == {"budget": 1, "unreadable": 1}
    assert verdicts.rows()[1] == {
        "item": verdicts[1].item.id,
        "model_a": "m1",
        "model_b": "m2",
        "winner": None,
        "p_a": None,
        "consistent": None,
        "cause": "unreadable",
        "flags": None,
    }
    assert repr(verdicts) == (
        "Verdicts: 3 verdicts asked for, coverage 33.3% (without: 1 budget, 1 unreadable)"
    )


def test_an_address_is_asked_through_the_store(tmp_path: Path) -> None:
    address = script_file(tmp_path, "[[4]]")
    first = rlaif.Judge(address, rubric(), concurrency=2).score(RESPONSES)
    again = rlaif.Judge(address, rubric()).score(RESPONSES)
    assert first.summary["calls_cached"] == 0
    assert again.summary["calls_cached"] == again.summary["calls"] == 3
    assert (Path(os.environ["RLAIF_HOME"]) / "replies.sqlite").exists()
    own = rlaif.Judge(address, rubric(), store=tmp_path / "own.sqlite").score(RESPONSES)
    assert own.summary["calls_cached"] == 0


def test_a_backend_has_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs a key: set OPENAI_API_KEY"):
        rlaif.open_backend("openai/gpt-5.1")
    backend = rlaif.open_backend("openai/gpt-5.1", api_key="sk-secret", concurrency=7, budget_usd=2)
    found = list(layers(backend))
    assert [x.pace.concurrency for x in found if isinstance(x, LimitedBackend)] == [7]
    assert "secret" not in repr(found) + repr([vars(x) for x in found[:2]])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    asyncio.run(rlaif.open_backend("openai/gpt-5.1").aclose())
    asyncio.run(backend.aclose())
    with pytest.raises(ConfigError, match="no budget can be kept"):
        rlaif.open_backend("server/x", base_url="http://127.0.0.1:9/v1", budget_usd=1)


def test_prices_may_come_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        rlaif.open_backend("openai/gpt-5.1", api_key="k", prices=tmp_path / "none.yaml")


class Small(rlaif.ScriptedBackend):
    parameters = 135_000_000


@pytest.mark.parametrize(
    ("method", "backend", "scored", "compared"),
    [
        ("auto", rlaif.ScriptedBackend([]), "verdict", "verdict"),
        ("token", rlaif.ScriptedBackend([]), "expectation", "token"),
        ("auto", Small([]), "expectation", "likelihood"),
        ("verdict", Small([]), "verdict", "verdict"),
        ("likelihood", rlaif.ScriptedBackend([]), None, "likelihood"),
        ("score", rlaif.ScriptedBackend([]), "verdict", "scores, verdict"),
        ("expectation", Small([]), "expectation", "scores, expectation"),
        ("checklist", rlaif.ScriptedBackend([]), "checklist", "checklist"),
        ("auto", rlaif.ScriptedBackend([], model="reward/x"), "reward", "reward"),
    ],
)
def test_the_method_suits_the_model(
    method: Any, backend: Backend, scored: str | None, compared: str
) -> None:
    one = rlaif.Judge(backend, rubric(), method=method)
    assert one.pairwise().ref.method.startswith(compared)
    if scored is None:
        with pytest.raises(ConfigError, match="compare by them"):
            one.pointwise()
    else:
        assert one.pointwise().ref.method.startswith(scored)


def test_an_option_that_the_method_has_no_use_for_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"likelihood \(chosen by auto\) takes no draws, struct"):
        rlaif.Judge(Small([]), rubric(), structured=True, draws=2).pairwise()
    rewarding = rlaif.ScriptedBackend([], model="reward/x")
    with pytest.raises(ConfigError, match=r"reward \(chosen by auto\) takes no too_long"):
        rlaif.Judge(rewarding, rubric(), too_long="cut").pointwise()
    with pytest.raises(ConfigError, match=r"reward \(chosen by auto\) takes no too_long"):
        rlaif.Judge(rewarding, rubric(), too_long="cut").pairwise()
    with pytest.raises(ConfigError, match="a backend is open already: budget_usd is unused"):
        judge(budget_usd=1)
    assert isinstance(rlaif.Judge(rewarding, rubric()).pairwise(), RewardJudge)
    assert isinstance(rlaif.Judge(Small([]), rubric()).pairwise(), LikelihoodJudge)


def test_a_judge_becomes_a_reward() -> None:
    by_grade = judge(lambda request: "[[4]]").reward(name="help")
    assert by_grade.blocking(prompts=["p"], completions=["a"]) == [0.5]
    by_pairs = judge().reward("comparison", opponents=1)
    assert by_pairs.blocking(prompts=["p", "p"], completions=["lead", "gold"]) == [-1.0, 1.0]


def test_it_closes_what_it_opened() -> None:
    backend = rlaif.ScriptedBackend([])
    with rlaif.Judge(backend, rubric()) as one:
        assert repr(one) == "Judge('scripted/inline', 'test', method='auto')"
    assert backend.closed


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("nowhere.jsonl", "no such file"),
        ({"prompt": "p"}, "a list of rows, not a dict"),
        (3, "a list of rows, not a int"),
        ([], "holds no rows"),
        ([{"prompt": "p", "response": "r"}, {"prompt": "p"}], "row:2: field 'response'"),
        ([3], "a row should be a mapping"),
    ],
)
def test_bad_rows_are_named(rows: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        judge().score(rows)


def test_wrong_pairs_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="pairs is 'all'"):
        judge().compare(PAIRS, pairs="some")


def test_a_script_ends_by_itself(tmp_path: Path) -> None:
    """The thread behind a blocking call does not keep the process alive."""
    code = (
        "import rlaif; "
        f"print(rlaif.Judge({script_file(tmp_path, '[[4]]')!r}).score("
        "[{'prompt': 'p', 'response': 'r'}], progress=False).coverage)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() in {"0.0", "1.0"}
    assert done.stderr == ""


def test_each_item_may_have_its_own_rubric() -> None:
    one = rlaif.Judge(rlaif.ScriptedBackend(lambda r: "[[4]]"), lambda item: rubric())
    verdicts = one.score(RESPONSES)
    assert {v.judge.rubric and v.judge.rubric.name for v in verdicts} == {"test"}
    assert repr(one).startswith("Judge('scripted/inline', '…'")
