"""Rewards in the protocols of trainers, and the clients that ask for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from rlaif.errors import BackendError, ConfigError, DataError, VerdictError
from rlaif.service.client import ServiceReward, _shared, compute_score
from rlaif.service.rewarding import Remembered
from tests.unit.service.conftest import CHOICE, FAILING, GRADE, Serve

BODY = {"prompts": ["Capital?", "Why rain?"], "completions": ["Paris.", "Clouds."]}
QUERY = {"query": ["Capital?Paris.<|im_end|>", "Why rain?Clouds."], "prompts": BODY["prompts"]}


def output(text: str) -> dict[str, object]:
    content = [{"type": "output_text", "text": text}]
    return {"output": [{"type": "reasoning"}, {"type": "message", "content": content}]}


def client(*answers: httpx.Response) -> ServiceReward:
    """A client of a service that gives these answers, one after the other."""
    reward, left = ServiceReward("http://judge"), iter(answers)
    transport = httpx.MockTransport(lambda _: next(left))
    reward._client = httpx.AsyncClient(transport=transport, base_url="http://judge")
    return reward


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=9), True)}, 30, 30),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0, 0),
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "soon"}, 0.5, 0.5),
        ({"Retry-After": "nan"}, 0.5, 0.5),
        ({"retry-after-ms": "250"}, 0.25, 0.25),
        ({}, 0.5, 0.5),
    ],
)
def test_a_client_waits_as_long_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], least: float, most: float
) -> None:
    given = {"rewards": [0.5], "causes": [None], "cost_usd": 0.0}
    reward = client(httpx.Response(503, headers=headers), httpx.Response(200, json=given))
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("rlaif.service.client.asyncio.sleep", wait)
    assert asyncio.run(reward.judged(["Capital?"], ["Paris."]))[0] == [0.5]
    (waited,) = waits
    assert least <= waited <= most


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b"\xff"])
def test_an_answer_without_rewards_is_no_service_s(content: bytes) -> None:
    reward = client(httpx.Response(200, content=content))
    with pytest.raises(ConfigError, match="holds no rewards"):
        asyncio.run(reward.judged(["Capital?"], ["Paris."]))


def test_a_completion_without_a_verdict_has_no_reward(serve: Serve) -> None:
    answer = serve(FAILING, GRADE).post("/v1/rewards", BODY).json()
    assert answer == {"rewards": [0.5, None], "causes": [None, "unreadable"], "cost_usd": 0.0}


def test_rewards_by_comparison_are_within_a_prompt(serve: Serve) -> None:
    first = {"match": "Paris.", "reply": "[[tie]]"}
    body = {"prompts": ["Capital?"] * 2, "completions": ["Paris.", "Lyon."], "by": "comparison"}
    answer = serve(first, CHOICE).post("/v1/rewards", {**body, "opponents": 1}).json()
    assert answer["rewards"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompts"),
        ({"prompts": [], "completions": []}, "prompts"),
        ({**BODY, "completions": ["one"]}, "completions"),
        ({**BODY, "references": ["one"]}, "references"),
        ({**BODY, "by": "luck"}, "by"),
        ({**BODY, "opponents": 0}, "opponents"),
        ({**BODY, "model": "openai/gpt"}, "model"),
        ({**BODY, "prompts": [3, 4]}, None),
        ({**BODY, "completions": [[{"role": "robot"}], "x"]}, None),
    ],
)
def test_rewards_that_cannot_be_asked_are_refused(
    serve: Serve, body: dict[str, object], field: str | None
) -> None:
    answer = serve().post("/v1/rewards", body)
    assert answer.status_code == 422
    assert answer.json().get("field") == field


def test_openrlhf_gets_rewards_and_scores_in_its_shape(serve: Serve) -> None:
    running = serve()
    for _ in range(2):  # the second time they are remembered
        answer = running.post("/get_reward", {**QUERY, "labels": ["Paris", None]})
        assert answer.status_code == 200
        assert answer.json() == {
            "rewards": [0.5, 0.5],
            "scores": [0.75, 0.75],
            "extra_logs": {"no_verdict": [0.0, 0.0]},
        }
    assert b'rlaif_verdicts_total{kind="score",outcome="ok"} 2.0' in running.get("/metrics").content


def test_openrlhf_is_told_to_ask_again_where_there_is_no_verdict(serve: Serve) -> None:
    answer = serve(FAILING, GRADE).post("/get_reward", QUERY)
    assert answer.status_code == 503
    assert answer.json()["causes"] == {"unreadable": 1}
    assert answer.headers["retry-after"] == "1"


def test_openrlhf_gets_the_neutral_reward_where_one_is_configured(serve: Serve) -> None:
    answer = serve(FAILING, GRADE, reward={"neutral": -0.25}).post("/get_reward", QUERY).json()
    assert answer["rewards"] == [0.5, -0.25]
    assert answer["extra_logs"] == {"no_verdict": [0.0, 1.0]}


def test_openrlhf_bodies_that_do_not_fit_are_refused(serve: Serve) -> None:
    running = serve()
    for body in (
        {},
        {"query": ["a"], "prompts": []},
        {"query": [1], "prompts": ["a"]},
        {"query": ["b"], "prompts": ["a"]},
        {**QUERY, "labels": ["x"]},
    ):
        assert running.post("/get_reward", body).status_code == 422
    assert serve(limits={"batch": 1}, root="other").post("/get_reward", QUERY).status_code == 413


def test_a_group_is_compared_as_nemo_gym_sends_it(serve: Serve) -> None:
    body = {
        "conversation_history": [{"role": "user", "content": "Capital?"}],
        "response_objs": [output("Paris."), output("Lyon."), output("Paris.")],
        "principle": "Prefer the truth.",
    }
    answer = serve(CHOICE).post("/compare", body).json()
    assert answer["rewards"] == [0.0, 0.0, 0.0]
    (result,) = answer["comparison_results"]
    assert {result["response_i"], result["response_j"]} == {0, 1}
    assert (result["score_1"], result["score_2"], result["ranking"]) == (3.0, 3.0, 3.5)
    assert answer["metrics"]["mean_individual_score"] == 0.0


def test_groups_that_do_not_fit_are_refused(serve: Serve) -> None:
    running = serve(CHOICE)
    history = [{"role": "user", "content": "x"}]
    for objects in ([output("a")], [{}, {}], [{"output": "a"}, output("a")]):
        body = {"conversation_history": history, "response_objs": objects}
        assert running.post("/compare", body).status_code == 422


def test_a_response_that_said_nothing_is_judged_as_such(serve: Serve) -> None:
    running = serve({"match": "says so", "reply": "[[B]]"}, {"match": "", "reply": "[[tie]]"})
    odd = [{"output": []}, {"output": [{"type": "message", "content": 5}]}, output("He says so.")]
    body = {"conversation_history": [{"role": "user", "content": "x"}], "response_objs": odd}
    answer = running.post("/compare", body).json()
    assert len(answer["rewards"]) == 3
    assert answer["rewards"][0] == answer["rewards"][1]


def test_a_group_without_verdicts_is_a_503(serve: Serve) -> None:
    body = {
        "conversation_history": [{"role": "user", "content": "x"}],
        "response_objs": [output("a"), output("b")],
    }
    answer = serve({"match": "", "reply": "I cannot say."}).post("/compare", body)
    assert answer.status_code == 503


def test_what_is_remembered_is_bounded() -> None:
    known = Remembered(2)
    for name in (b"a", b"b", b"c"):
        known.put(name, 1.0)
    assert known.get([b"a", b"c"]) == [None, 1.0]


def test_a_trl_reward_function_asks_the_service(
    serve: Serve, request: pytest.FixtureRequest
) -> None:
    running = serve(FAILING, GRADE)
    reward = ServiceReward(running.url, batch=1)
    request.addfinalizer(reward.close)
    told: dict[str, float] = {}
    prompts = [[{"role": "user", "content": "Capital?"}], "Why rain?", "Capital?"]
    completions = [[{"role": "assistant", "content": "Paris."}], "Clouds.", "Paris."]

    async def call() -> list[float | None]:
        return await reward(
            prompts, completions, log_metric=told.__setitem__, reference=["Paris", "", None]
        )

    assert asyncio.run(call()) == [0.5, None, 0.5]
    assert told["judge/coverage"] == pytest.approx(2 / 3)
    assert reward.blocking(prompts, completions) == [0.5, None, 0.5]
    assert reward.__name__ == reward.blocking.__name__ == "judge"
    assert "ServiceReward" in repr(reward)


def test_a_token_is_sent_and_shown_nowhere(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("trainer", ["judge"])
    with ServiceReward(running.url, token=token, rubric="helpfulness") as reward:
        assert reward.blocking(["Capital?"], ["Paris."]) == [0.5]
        assert token not in repr(reward)
    with ServiceReward(running.url) as reward, pytest.raises(ConfigError, match="401"):
        reward.blocking(["Capital?"], ["Paris."])


def test_a_client_says_what_is_wrong(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="http"):
        ServiceReward("localhost:8000")
    with pytest.raises(DataError, match="not as many"):
        ServiceReward("http://127.0.0.1:9").blocking(["a"], [])
    monkeypatch.setattr("rlaif.service.client._TRIES", 2)
    monkeypatch.setattr("rlaif.service.client._LONGEST_WAIT_S", 0.01)
    nobody = ServiceReward("http://127.0.0.1:9")
    with nobody, pytest.raises(BackendError, match="cannot be reached"):
        nobody.blocking(["a"], ["b"])
    fatal = {"match": "", "error": {"message": "no such model", "fatal": True}}
    other = ServiceReward(serve().url, judge="x")
    with other, pytest.raises(ConfigError, match="no judge 'x'"):
        other.blocking(["a"], ["b"])
    with ServiceReward(serve(fatal, root="other").url) as reward:
        assert reward.blocking(["a"], ["b"]) == [None]


def test_verl_scores_one_response(
    serve: Serve, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    running = serve(FAILING, GRADE, token=True)
    secret = tmp_path / "token"
    secret.write_text(running.tokens.add("verl", ["judge"]) + "\n")
    how = {"url": running.url, "token_file": str(secret)}
    request.addfinalizer(_shared(running.url, str(secret), "default", None).close)

    async def score(**info: object) -> dict[str, object]:
        return await compute_score(
            "set", "Paris.", None, info, neutral=info.pop("neutral", None), **how
        )  # type: ignore[arg-type]

    assert asyncio.run(score(prompt="Capital?")) == {"score": 0.5, "no_verdict": 0, "cost_usd": 0.0}
    asked = [{"role": "user", "content": "Capital?"}]
    assert asyncio.run(score(prompt=asked))["score"] == 0.5
    assert asyncio.run(score(question="rain?", neutral=0.1))["score"] == 0.1
    with pytest.raises(VerdictError, match="no neutral reward"):
        asyncio.run(score(question="rain?"))
    with pytest.raises(DataError, match="needs the prompt"):
        asyncio.run(score())
