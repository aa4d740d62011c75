"""What a type checker must see of the public names; `test_public_names` runs it over this file."""

from __future__ import annotations

from typing import assert_type

import rlaif


class Echo:
    """The least that a backend is."""

    @property
    def model(self) -> str:
        return "mine/echo"

    @property
    def identity(self) -> str:
        return "mine/echo"

    async def complete(self, request: rlaif.Request) -> rlaif.Completion:
        return rlaif.Completion(request.messages[-1].content)

    async def aclose(self) -> None:
        pass


backend: rlaif.Backend = Echo()
judge = rlaif.Judge(backend, "helpfulness", method="token", draws=2, temperature=1.0)
assert_type(judge, rlaif.Judge)
verdicts = judge.compare([{"prompt": "p", "response_a": "a", "response_b": "b"}])
assert_type(verdicts, rlaif.Verdicts)
assert_type(verdicts[0], rlaif.Verdict)
assert_type(verdicts.table(), rlaif.Table)
assert_type(judge.reward("comparison"), rlaif.JudgeReward)
assert_type(rlaif.load_rubric("helpfulness"), rlaif.Rubric)


async def awaited() -> None:
    assert_type(await judge.ascore("responses.jsonl", limit=3), rlaif.Verdicts)
    assert_type(await judge.reward()(["p"], ["c"], extra=[1]), list[float | None])


panel = rlaif.Judge(
    ["openai/one", backend], ["helpfulness", "item"], panel="median", weights=[2, 1, 1, 1]
)
assert_type(panel.rank([], strategy="listwise"), rlaif.Verdicts)
cascade = rlaif.Judge(["openai/small", "openai/large"], cascade=0.9, batch=True, levels=5)
assert_type(cascade.score("responses.jsonl"), rlaif.Verdicts)
