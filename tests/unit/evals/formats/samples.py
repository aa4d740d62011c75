"""One row of each shape that the importers read, made up here."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def single(**more: Any) -> Row:
    return {
        "question_id": 81,
        "model": "m1",
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "Grade it.",
        "judgment": "Clear and short. Rating: [[8]]",
        "score": 8,
        "turn": 1,
        "tstamp": 1.5,
    } | more


def pair(**more: Any) -> Row:
    return {
        "question_id": 81,
        "model_1": "m1",
        "model_2": "m2",
        "g1_winner": "model_1",
        "g2_winner": "model_2",
        "judge": ["gpt-4", "pair-v2"],
        "g1_user_prompt": "m1, m2",
        "g1_judgment": "The first is better. [[A]]",
        "g2_user_prompt": "m2, m1",
        "g2_judgment": "The first is better. [[A]]",
        "turn": 1,
        "tstamp": 1.5,
    } | more


def pair_of_scores(**more: Any) -> Row:
    """Two pointwise gradings that made one winner."""
    row = pair(
        g1_winner="model_1",
        g2_winner="model_1",
        g1_judgment="Rating: [[8]]",
        g2_judgment="Rating: [[7]]",
        m1_score=8,
        m2_score=7,
    )
    del row["turn"]
    return row | more


def vote(**more: Any) -> Row:
    return {
        "question_id": 81,
        "model_a": "m1",
        "model_b": "m2",
        "winner": "model_b",
        "judge": "expert_1",
        "turn": 1,
    } | more


def vote_with_texts(**more: Any) -> Row:
    def talk(name: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": "q1"},
            {"role": "assistant", "content": f"{name} a1"},
            {"role": "user", "content": "q2"},
            {"role": "assistant", "content": f"{name} a2"},
        ]

    return vote(conversation_a=talk("m1"), conversation_b=talk("m2")) | more


def annotation(**more: Any) -> Row:
    return {
        "instruction": "Name a river.",
        "output_1": "The Nile.",
        "generator_1": "base",
        "dataset": "ours",
        "output_2": "The Rhine.",
        "generator_2": "m1",
        "annotator": "weighted",
        "preference": 1.25,
        "price_per_example": 0.01,
        "raw_completion": {
            "text": "M",
            "logprobs": {
                "content": [
                    {
                        "token": "M",
                        "top_logprobs": [
                            {"token": "m", "logprob": -1.3862943611198906},
                            {"token": "M", "logprob": -0.2876820724517809},
                        ],
                    }
                ]
            },
        },
    } | more


def compact_annotation(**more: Any) -> Row:
    return {
        "index": 0,
        "generator_1": "base",
        "generator_2": "m1",
        "annotator": "weighted",
        "preference": 1.25,
        "len_1": 9,
        "len_2": 10,
        "judge_token": "M",
        "top_logprobs": {"m": -1.3862943611198906, "M": -0.2876820724517809},
    } | more


def arena(**more: Any) -> Row:
    return {
        "uid": "u1",
        "category": "hard_prompt",
        "judge": "gpt-4.1",
        "model": "m1",
        "baseline": "base",
        "games": [
            {"score": "B>>A", "judgment": {"answer": "So: [[B>>A]]"}, "prompt": []},
            {"score": "A>B", "judgment": {"answer": "So: [[A>B]]"}, "prompt": []},
        ],
    } | more


def old_arena(**more: Any) -> Row:
    return {
        "question_id": "q1",
        "model": "m1",
        "judge": "gpt-4-1106",
        "games": [
            {"user_prompt": "p", "judgment": "[[B>A]]", "score": "B>A"},
            {"user_prompt": "p", "judgment": "[[A=B]]", "score": "A=B"},
        ],
    } | more


def llmbar(**more: Any) -> Row:
    return {
        "input": "Name a river.",
        "output_1": "The Rhine.",
        "output_2": "Everest.",
        "label": 1,
        "results": [
            {
                "swap = False": {"completion": ["Output (a) is better.", "stop"], "winner": "1"},
                "swap = True": {"completion": ["Output (b) is better.", "stop"], "winner": "1"},
            }
        ],
    } | more


def llmbar_scores(first: str = "6", second: str = "6", **more: Any) -> Row:
    """A judge that scored each output alone; LLMBar breaks its ties by the order shown."""
    return {
        "index": 0,
        "label": 1,
        "results": [
            {
                "score_1": [first, "stop"],
                "score_2": [second, "stop"],
                "swap = False": {"winner": "2"},
                "swap = True": {"winner": "1"},
            }
        ],
    } | more


def llmbar_decisions(**more: Any) -> Row:
    return {"evaluator": "E", "strategy": "S", "winners": [["1", "1"], ["2", None]]} | more


def judgebench(**more: Any) -> Row:
    def judgment(text: str, decision: str | None) -> Row:
        inner = {"judge_model": "j", "prompt": "p", "response": text}
        return {"judgment": inner, "decision": decision}

    return {
        "pair_id": "p1",
        "original_id": 7,
        "source": "mmlu-pro-law",
        "question": "Which?",
        "response_model": "m",
        "response_A": "A.",
        "response_B": "B.",
        "label": "A>B",
        "judge_name": "arena_hard",
        "judgments": [judgment("[[A>>B]]", "A>B"), judgment("[[B>A]]", "B>A")],
    } | more


def judgebench_compact(**more: Any) -> Row:
    return {
        "pair_id": "p1",
        "judge_model": "j",
        "label": "A>B",
        "judgments": [
            {"response": "[[A>B]]", "decision": "A>B"},
            {"response": "[[A>B]] or [[A=B]]\nso [[B>A]]", "decision": None},
        ],
    } | more


def judgebench_decisions(**more: Any) -> Row:
    return {
        "pair_id": "p1",
        "judge_model": "j",
        "label": "B>A",
        "decisions": ["B>A", None],
        "scores": [[1.5, 2.5], [2.5, 1.5]],
    } | more


def plain(**more: Any) -> Row:
    return {
        "id": "1",
        "prompt": "Name a river.",
        "response_a": "The Rhine.",
        "response_b": "",
        "model_a": "m1",
        "model_b": "m2",
        "winner": "model_a",
        "judge": "ann",
        "team": "red",
    } | more


SHAPES: list[tuple[str, Row]] = [
    ("mt-bench-single", single()),
    ("mt-bench-single", single(score=-1, judgment="$ERROR$")),
    ("mt-bench-single", single(judge="gpt-4", score=7.5)),
    ("mt-bench-pair", pair()),
    ("mt-bench-pair", pair(g1_winner="error", g1_judgment="I give up.")),
    ("mt-bench-pair", pair_of_scores()),
    ("mt-bench-pair", vote(judge="gpt4_pair", winner="tie (inconsistent)")),
    ("mt-bench-human", vote()),
    ("mt-bench-human", vote_with_texts()),
    ("mt-bench-human", vote_with_texts(turn=2, winner="tie")),
    ("mt-bench-human", vote(winner="tie (inconsistent)", judge=["gpt-4", "pair-v2"])),
    ("alpaca-eval", annotation()),
    ("alpaca-eval", annotation(preference=None)),
    ("alpaca-eval", annotation(preference=0, raw_completion="M")),
    ("alpaca-eval", compact_annotation()),
    ("alpaca-eval", compact_annotation(preference=1.5)),
    ("arena-hard", arena()),
    ("arena-hard", arena(games=[None, {"score": None, "judgment": None}])),
    ("llmbar", llmbar()),
    ("llmbar", llmbar_scores()),
    ("llmbar", llmbar_decisions()),
    ("judgebench", judgebench()),
    ("judgebench", judgebench(judgments=[None, None])),
    ("judgebench", judgebench_compact()),
    ("judgebench", judgebench_decisions()),
    ("pairs", plain()),
    ("pairs", plain(winner="TIE", label=2, category="")),
    ("pairs", {"question_id": 3, "turn": 2, "p_a": 0.75, "consistent": False, "reply": "[[A]]"}),
]
"""Every shape, with the format that reads it."""
