"""Verdicts over HTTP: one, a batch, a stream."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from rlaif.service.config import JudgeConfig
from rlaif.types import Verdict
from tests.unit.service.conftest import CHOICE, FAILING, GRADE, Serve

ONE = {"prompt": "What is the capital of France?", "response": "Paris."}
PAIR = {"prompt": "What is the capital of France?", "response_a": "Paris.", "response_b": "Lyon."}


def test_one_response_is_answered_with_its_verdict_record(serve: Serve) -> None:
    answer = serve().post("/v1/score", {**ONE, "id": "q1", "subject": "geography"})
    assert answer.status_code == 200
    verdict = Verdict.from_dict(answer.json())
    assert verdict.score is not None
    assert verdict.score.value == 4.0
    assert verdict.item.id == "q1"
    assert verdict.item.meta == {"subject": "geography"}
    assert verdict.judge.rubric is not None
    assert verdict.judge.rubric.name == "helpfulness"


def test_a_request_may_name_another_rubric(serve: Serve) -> None:
    body = {**ONE, "reference": "Paris.", "rubric": "correctness"}
    verdict = Verdict.from_dict(
        serve({"match": "", "reply": "[[4]]"}).post("/v1/score", body).json()
    )
    assert verdict.judge.rubric is not None
    assert verdict.judge.rubric.name == "correctness"


def test_a_pair_is_asked_in_both_orders(serve: Serve) -> None:
    verdict = Verdict.from_dict(serve(CHOICE).post("/v1/compare", PAIR).json())
    assert verdict.preference is not None
    assert [order.winner for order in verdict.preference.orders] == ["A", "B"]
    assert verdict.preference.p_a == 0.5
    assert not verdict.preference.consistent


def test_a_judge_of_the_service_may_grade_each_response_alone(
    serve: Serve, script: Callable[..., str]
) -> None:
    address = script(
        {"match": "response>\nParis", "reply": "[[5]]"},
        {"match": "", "reply": "[[2]]"},
        name="grades",
    )
    judges = {"default": JudgeConfig(model=address, method="score")}
    running = serve(judges=judges)
    verdict = Verdict.from_dict(running.post("/v1/compare", PAIR).json())
    assert verdict.judge.method == "scores, verdict"
    assert verdict.preference is not None
    assert verdict.preference.winner == "A"
    graded = Verdict.from_dict(running.post("/v1/score", ONE).json())
    assert graded.score is not None
    assert graded.score.value == 5.0


def test_responses_are_ranked(serve: Serve) -> None:
    lines = [
        {"match": "Paris", "reply": "[[tie]]"},
        {"match": "", "reply": "[[tie]]"},
    ]
    body = {"prompt": "Capital?", "responses": ["Paris.", "Lyon.", "Nice."]}
    verdict = Verdict.from_dict(serve(*lines).post("/v1/rank", body).json())
    assert verdict.kind == "ranking"
    assert verdict.ranking is not None
    assert sorted(verdict.ranking.order) == ["1", "2", "3"]


def test_a_batch_is_answered_in_order_with_its_summary(serve: Serve) -> None:
    items = [{**ONE, "id": "a"}, {**ONE, "prompt": "Why does it rain?", "id": "b"}]
    answer = serve(FAILING, GRADE).post("/v1/score", {"items": items}).json()
    verdicts = [Verdict.from_dict(row) for row in answer["verdicts"]]
    assert [v.item.id for v in verdicts] == ["a", "b"]
    assert [v.cause for v in verdicts] == [None, "unreadable"]
    assert answer["summary"]["coverage"] == 0.5
    assert answer["summary"]["causes"] == {"unreadable": 1}


def test_verdicts_stream_line_by_line(serve: Serve) -> None:
    items = [{**ONE, "id": str(n)} for n in range(30)]
    running = serve()
    headers = {"accept": "application/x-ndjson"}
    with running.client.stream("POST", "/v1/score", json={"items": items}, headers=headers) as got:
        verdicts = [Verdict.from_dict(json.loads(line)) for line in got.iter_lines()]
    assert {v.item.id for v in verdicts} == {str(n) for n in range(30)}


def test_a_failure_amid_a_stream_is_its_last_line(serve: Serve) -> None:
    fatal = {"match": "", "error": {"message": "no such model", "fatal": True}}
    running = serve(fatal)
    got = running.post("/v1/score", {"items": [ONE]}, headers={"accept": "application/x-ndjson"})
    assert got.status_code == 200
    assert json.loads(got.text) == {"error": {"status": 502, "detail": "no such model"}}


def test_a_provider_that_fails_for_good_is_a_502(serve: Serve) -> None:
    answer = serve({"match": "", "error": {"message": "no such model", "fatal": True}}).post(
        "/v1/score", ONE
    )
    assert answer.status_code == 502
    assert answer.json()["detail"] == "no such model"
    assert answer.headers["content-type"] == "application/problem+json"


def test_one_call_that_fails_is_a_record_without_a_verdict(serve: Serve) -> None:
    answer = serve({"match": "", "error": {"message": "bad request"}}).post("/v1/score", ONE)
    assert answer.status_code == 200
    assert Verdict.from_dict(answer.json()).cause == "provider_error"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"prompt": "x"}, 422, "response"),
        ({"prompt": 5, "response": "y"}, 422, "prompt"),
        ({**ONE, "judge": "other"}, 422, None),
        ({**ONE, "judge": 7}, 422, "judge"),
        ({**ONE, "rubric": "nonsense"}, 422, None),
        ({**ONE, "rubric": "../../etc/passwd.yaml"}, 422, None),
        ({"items": []}, 422, "items"),
        ({"items": {}}, 422, "items"),
        ({"items": ["text"]}, 422, None),
        ({"items": [ONE], "extra": 1}, 422, "extra"),
        ({"items": [{**ONE, "id": "a"}, {**ONE, "id": "a"}]}, 422, "id"),
        ({"items": [ONE] * 5}, 413, None),
        ([ONE], 422, None),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(
    serve: Serve, body: object, status: int, field: str | None
) -> None:
    answer = serve(limits={"batch": 4}).post("/v1/score", body)
    assert answer.status_code == status
    problem = answer.json()
    assert problem["status"] == status
    assert problem.get("field") == field


def test_the_body_is_json_and_nothing_else(serve: Serve) -> None:
    client = serve().client
    plain = {"content-type": "text/plain"}
    assert client.post("/v1/score", content=b"{}", headers=plain).status_code == 415
    json_type = {"content-type": "application/json; charset=utf-8"}
    for broken in (b"{", b"", b"\xff\xfe", b'{"a": NaN}', b"[" * 5000):
        answer = client.post("/v1/score", content=broken, headers=json_type)
        assert answer.status_code == 400, broken[:10]


def test_markup_in_judged_text_comes_back_as_it_was(serve: Serve) -> None:
    text = "<script>alert(1)</script>\x00\u202e\ud7ff"
    record = serve().post("/v1/score", {**ONE, "response": text}).json()
    assert record["candidates"][0]["response"][0]["content"] == text
