"""AlpacaEval: files joined, one token read, both orders or one."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import SpecError, VerdictError
from rlaif.evals.alpaca_eval import (
    OWN_PROMPT,
    SoftJudge,
    comparisons,
    load_instructions,
    load_outputs,
    load_soft_prompt,
    parse_label,
)
from rlaif.types import Completion, Request, TokenLogprob
from tests.unit.evals.bench_files import jsonl

ROWS = [
    {"instruction": "Say hi.", "output": "Hi!", "generator": "base", "dataset": "koala"},
    {"instruction": "Count.", "output": "1 2 3", "generator": "base", "dataset": "koala"},
]
PROMPT = (
    "<|im_start|>system\nJudge.\n<|im_end|>\n<|im_start|>user\n{instruction}\n"
    '"m": {output_1}\n"M": {output_2}\n<|im_end|>'
)


def token(*top: tuple[str, float], text: str = "m") -> Completion:
    logs = tuple((name, math.log(p)) for name, p in top)
    return Completion(text, finish_reason="length", tokens=(TokenLogprob(text, -0.1, logs),))


def outputs(folder: Path, name: str, rows: list[dict]) -> Path:
    return jsonl(folder / f"{name}.json", rows)


def work(folder: Path, *texts: str) -> list:
    every = load_instructions(outputs(folder, "base", ROWS))
    made = [r | {"output": t, "generator": "m1"} for r, t in zip(ROWS, texts, strict=True)]
    model = load_outputs(outputs(folder, "m1", made), every)
    return list(comparisons(every, [model], load_outputs(folder / "base.json", every)))


@pytest.mark.parametrize(
    ("completion", "share"),
    [
        (token(("m", 0.6), ("M", 0.2), ("x", 0.2)), 0.75),
        (token((" m", 0.3), ("m", 0.3), ("M", 0.2)), 0.75),
        (token(("m", 0.9)), 1.0),
        (token(("M", 0.9)), 0.0),
        (token(("M", 0.4), ("m", 0.4)), 0.5),
        (Completion(" M."), 0.0),
        (Completion('"m"'), 1.0),
    ],
)
def test_a_token_says_how_probable_the_first_is(completion: Completion, share: float) -> None:
    winner, p_first = parse_label(completion, ("m", "M"))
    assert p_first == pytest.approx(share)
    assert winner == ("tie" if share == 0.5 else "A" if share > 0.5 else "B")


@pytest.mark.parametrize(
    ("completion", "cause"),
    [
        (token(("Neither", 0.6), ("m", 0.2), ("M", 0.1)), "unreadable"),
        (token(("Neither", 0.9)), "unreadable"),
        (Completion("the first"), "unreadable"),
        (Completion("", finish_reason="refusal"), "refused"),
    ],
)
def test_a_reply_that_names_neither_is_no_verdict(completion: Completion, cause: str) -> None:
    with pytest.raises(VerdictError) as error:
        parse_label(completion, ("m", "M"))
    assert error.value.cause == cause


def first_of(request: Request) -> Completion:
    """A judge that likes what comes first, with probability 0.7."""
    return token(("A", 0.7), ("B", 0.3), text="A")


def test_both_orders_are_asked_and_averaged(tmp_path: Path) -> None:
    pair = work(tmp_path, "Hello.", "1 2 3")[0]
    backend = ScriptedBackend(first_of)
    verdict = asyncio.run(SoftJudge(backend).compare(pair))
    assert verdict.preference is not None
    assert verdict.preference.p_a == pytest.approx(0.5)
    assert [(o.shown, round(o.p_a, 6)) for o in verdict.preference.orders] == [
        ("AB", 0.7),
        ("BA", 0.3),
    ]
    assert [c.model for c in verdict.candidates] == ["m1", "base"]
    assert backend.requests[0].sampling.max_tokens == 1
    assert backend.requests[0].top_logprobs == 5
    assert "<response_a>\nHello.\n</response_a>" in backend.requests[0].messages[-1].content
    assert verdict.item.id == "0"
    assert verdict.item.meta == {
        "index": 0,
        "position": 0,
        "dataset": "koala",
        "lengths": {"m1": 6, "base": 3},
    }


def test_equal_outputs_tie_without_a_call(tmp_path: Path) -> None:
    pair = work(tmp_path, "Hello.", "1 2 3")[1]
    backend = ScriptedBackend(first_of)
    verdict = asyncio.run(SoftJudge(backend).compare(pair))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.preference.p_a, backend.calls) == ("tie", 0.5, 0)


def test_the_legacy_order_is_one_and_hangs_on_the_prompt_s_text(tmp_path: Path) -> None:
    rows = [{"instruction": f"Task {n}.", "output": "x", "generator": "base"} for n in range(40)]
    every = load_instructions(outputs(tmp_path, "base", rows))
    base = load_outputs(tmp_path / "base.json", every)
    made = [row | {"output": "y", "generator": "m1"} for row in rows]
    pairs = list(comparisons(every, [load_outputs(outputs(tmp_path, "m1", made), every)], base))
    backend = ScriptedBackend(first_of)
    judge = SoftJudge(backend, legacy=True)
    verdicts = [asyncio.run(judge.compare(pair)) for pair in pairs]
    shown = [verdict.preference.orders[0].shown for verdict in verdicts if verdict.preference]
    assert backend.calls == 40
    assert 8 <= shown.count("AB") <= 32
    again = [asyncio.run(judge.compare(pair)) for pair in pairs]
    assert [v.preference for v in again] == [v.preference for v in verdicts]


def test_a_prompt_file_says_how_the_outputs_are_called(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT)
    prompt = load_soft_prompt(path)
    assert (prompt.labels, prompt.name) == (("m", "M"), "prompt")
    path.write_text("A: {output_1} B: {output_2} {instruction}")
    assert load_soft_prompt(path).labels == ("A", "B")
    path.write_text("{output_1} {output_2} {instruction}")
    assert load_soft_prompt(path, ("x", "y")).labels == ("x", "y")
    with pytest.raises(SpecError, match="give --labels"):
        load_soft_prompt(path)
    path.write_text("{output_1} {output_3} {instruction}")
    with pytest.raises(SpecError, match=r"never shows \{output_2\}"):
        load_soft_prompt(path)
    path.write_text("{output_1} {output_2} {instruction} {more}")
    with pytest.raises(SpecError, match=r"unknown placeholder \{more\}"):
        load_soft_prompt(path)


def test_a_prompt_of_the_user_s_is_asked_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT)
    pair = work(tmp_path, "Hello {output_2}.", "1")[0]
    requests = SoftJudge(ScriptedBackend([]), load_soft_prompt(path)).requests(pair)
    assert [m.role for m in requests[0].messages] == ["system", "user"]
    assert requests[1].messages[-1].content == 'Say hi.\n"m": Hi!\n"M": Hello {output_2}.'


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0]], "field 'instruction': holds no output to instruction 1: 'Count.'"),
        ([*ROWS, ROWS[0]], ":3: field 'instruction': 'Say hi.' is also in line 1"),
        ([ROWS[0] | {"instruction": "Else."}], ":1: field 'instruction': there is no such"),
        ([{"output": "x", "generator": "m"}], ":1: field 'instruction': is missing, and so is"),
        ([{"index": 9, "output": "x", "generator": "m"}], ":1: field 'index': there is no such"),
        ([ROWS[0], ROWS[1] | {"generator": "z"}], ":2: field 'generator': 'z', where rows before"),
        ([ROWS[0] | {"output": None}], ":1: field 'output': is null"),
        ([{"instruction": "Say hi.", "outptu": "x"}], ":1: field 'outptu'"),
    ],
)
def test_a_bad_file_of_outputs_is_refused_with_its_place(
    tmp_path: Path, rows: list[dict], message: str
) -> None:
    every = load_instructions(outputs(tmp_path, "base", ROWS))
    with pytest.raises(SpecError) as error:
        load_outputs(outputs(tmp_path, "m1", rows), every)
    assert message in str(error.value)


def test_instructions_occur_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r":2: field 'instruction'"):
        load_instructions(outputs(tmp_path, "x", [ROWS[0], ROWS[0]]))
    rows = [ROWS[0] | {"index": 4}, ROWS[1] | {"index": 4}]
    with pytest.raises(SpecError, match=r":2: field 'index'"):
        load_instructions(outputs(tmp_path, "x", rows))


def test_the_published_files_are_read_and_joined(shared_data: Path) -> None:
    folder = shared_data / "alpaca_eval"
    every = load_instructions(folder / "instructions.jsonl")
    files = folder / "model_outputs"
    model = load_outputs(files / "alpaca-7b.jsonl.gz", every)
    pairs = list(
        comparisons(every, [model], load_outputs(files / "gpt4_1106_preview.jsonl.gz", every))
    )
    assert len(pairs) == 805
    prompt = load_soft_prompt(folder / "judge_prompt.txt")
    assert prompt.labels == ("m", "M")
    (first, second) = SoftJudge(ScriptedBackend([]), prompt).requests(pairs[0])
    assert f'"model_identifier": "m",\n        "output": """{pairs[0].a.text}"""' in (
        first.messages[1].content
    )
    assert f'"model_identifier": "M",\n        "output": """{pairs[0].a.text}"""' in (
        second.messages[1].content
    )
    assert SoftJudge(ScriptedBackend([]), OWN_PROMPT).requests(pairs[0]) != [first, second]
