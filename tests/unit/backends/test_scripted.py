"""The scripted backend: functions, lists and files of replies, and files that are wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rlaif.backends.base import BackendOptions
from rlaif.backends.scripted import ScriptedBackend, load_script, open_script
from rlaif.errors import BackendError, SpecError
from rlaif.types import Completion, Message, Request, TokenLogprob, Usage


def ask(text: str, **more: object) -> Request:
    return Request((Message("system", "Be fair."), Message("user", text)), **more)  # type: ignore[arg-type]


def complete(backend: ScriptedBackend, request: Request) -> Completion:
    return asyncio.run(backend.complete(request))


def script(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_list_is_used_in_order_and_what_was_asked_is_kept() -> None:
    backend = ScriptedBackend(["one", Completion("two", model="m")])
    first, second = complete(backend, ask("a")), complete(backend, ask("b"))
    assert (first.text, second) == ("one", Completion("two", model="m"))
    assert [r.messages[-1].content for r in backend.requests] == ["a", "b"]
    assert backend.calls == 2


def test_usage_of_a_string_counts_words() -> None:
    completion = complete(ScriptedBackend(["three words here"]), ask("how many words"))
    assert completion.usage == Usage(input=5, output=3)
    assert completion.latency_s >= 0


def test_a_list_that_ran_out_fails_for_good() -> None:
    with pytest.raises(BackendError, match="no reply left") as failure:
        complete(ScriptedBackend([]), ask("a"))
    assert failure.value.fatal
    assert not failure.value.retryable


def test_an_error_in_the_script_is_raised() -> None:
    backend = ScriptedBackend([BackendError("busy", retryable=True, retry_after=2.0), "fine"])
    with pytest.raises(BackendError, match="busy") as failure:
        complete(backend, ask("a"))
    assert (failure.value.retryable, failure.value.retry_after) == (True, 2.0)
    assert complete(backend, ask("a")).text == "fine"


def test_a_function_and_a_coroutine_function_see_the_request() -> None:
    async def later(request: Request) -> str:
        await asyncio.sleep(0)
        return request.messages[-1].content.upper()

    assert complete(ScriptedBackend(lambda r: r.messages[-1].content[::-1]), ask("ab")).text == "ba"
    assert complete(ScriptedBackend(later), ask("ab")).text == "AB"


def test_calls_in_flight_are_counted() -> None:
    async def slow(_: Request) -> str:
        await asyncio.sleep(0.01)
        return "x"

    async def three() -> ScriptedBackend:
        backend = ScriptedBackend(slow)
        await asyncio.gather(*(backend.complete(ask(str(i))) for i in range(3)))
        await backend.aclose()
        return backend

    backend = asyncio.run(three())
    assert (backend.peak_in_flight, backend.in_flight, backend.closed) == (3, 0, True)


def test_a_file_tries_matches_first_then_goes_in_order(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        '{"reply": "first"}',
        "",
        '{"match": "France", "reply": "Paris"}',
        '{"match": "Fra", "reply": "shadowed by the line above"}',
        '{"reply": "second"}',
    )
    backend = load_script(path)
    said = [complete(backend, ask(t)).text for t in ("x", "In France?", "y", "France again")]
    assert said == ["first", "Paris", "second", "Paris"]
    with pytest.raises(BackendError, match="no reply left"):
        complete(backend, ask("z"))


def test_a_match_looks_at_every_message_and_an_empty_one_fits_all(tmp_path: Path) -> None:
    path = script(
        tmp_path, '{"match": "Be fair", "reply": "system"}', '{"match": "", "reply": "any"}'
    )
    backend = load_script(path)
    assert complete(backend, ask("x")).text == "system"
    assert complete(backend, Request((Message("user", "x"),))).text == "any"


def test_a_file_gives_reasons_probabilities_and_errors(tmp_path: Path) -> None:
    token = '{"token": "A", "logprob": -0.1, "top": [["A", -0.1], ["B", -2.3]]}'
    path = script(
        tmp_path,
        '{"reply": "cut", "finish_reason": "length"}',
        f'{{"match": "soft", "reply": "A", "logprobs": [{token}]}}',
        '{"error": {"message": "overloaded", "retryable": true, "retry_after": 1}}',
        '{"error": {"message": "bad key", "fatal": true}}',
    )
    backend = load_script(path)
    assert complete(backend, ask("x")).finish_reason == "length"
    both = (("A", -0.1), ("B", -2.3))
    soft = complete(backend, ask("soft", top_logprobs=5))
    assert soft.tokens == (TokenLogprob("A", -0.1, both),)
    assert complete(backend, ask("soft", top_logprobs=1)).tokens[0].top == both[:1]
    assert complete(backend, ask("soft")).tokens == ()
    assert complete(backend, ask("soft", task="likelihood")).tokens[0].logprob == -0.1
    with pytest.raises(BackendError, match="overloaded") as failure:
        complete(backend, ask("x"))
    assert (failure.value.retryable, failure.value.retry_after) == (True, 1.0)
    with pytest.raises(BackendError, match="bad key") as failure:
        complete(backend, ask("x"))
    assert failure.value.fatal


def test_identity_changes_with_the_contents_and_only_with_them(tmp_path: Path) -> None:
    path = script(tmp_path, '{"reply": "a"}')
    before = load_script(path)
    assert before.identity == open_script(str(path), BackendOptions()).identity
    assert before.model == f"scripted/{path}"
    script(tmp_path, '{"reply": "b"}')
    assert load_script(path).identity != before.identity


def test_a_byte_order_mark_and_odd_line_separators_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + '{"reply": "a\u2028b"}\r\n'.encode())
    assert complete(load_script(path), ask("x")).text == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("{not json}", None, "JSON"),
        ('["reply"]', None, "object|dictionary|dataclass"),
        ('{"reply": 5}', "reply", "string"),
        ('{"replies": "a"}', "replies", "[Uu]nexpected"),
        ('{"match": "x"}', "reply", "one of reply and error"),
        ('{"reply": "a", "error": {"message": "b"}}', "reply", "one of reply and error"),
        ('{"reply": "a", "finish_reason": "tired"}', "finish_reason", "'stop'"),
        ('{"reply": "a", "logprobs": [{"token": "a"}]}', "logprobs.0.logprob", "required"),
        ('{"reply": "a", "logprobs": [{"token": "a", "logprob": 0.5}]}', "logprobs", "0 or below"),
        ('{"reply": "a", "logprobs": [{"token": "a", "logprob": NaN}]}', "logprobs", "finite"),
        ('{"error": {"retryable": true}}', "error.message", "required"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, field: str | None, message: str) -> None:
    path = script(tmp_path, '{"reply": "fine"}', line)
    with pytest.raises(SpecError, match=message) as failure:
        load_script(path)
    assert (failure.value.path, failure.value.line) == (str(path), 2)
    assert failure.value.field == field


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing\.jsonl: cannot read"):
        load_script(tmp_path / "missing.jsonl")
    with pytest.raises(SpecError, match="cannot read"):
        load_script(tmp_path)
    with pytest.raises(SpecError, match="holds no replies"):
        load_script(script(tmp_path, "", "  "))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"reply": "a"}\n{"reply": "\xe9"}\n')
    with pytest.raises(SpecError, match="not UTF-8") as failure:
        load_script(latin)
    assert failure.value.line == 2


def test_a_script_from_a_file_counts_requests_and_keeps_none(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text('{"match": "", "reply": "Fine."}\n')
    backend = load_script(path)
    for prompt in ("x", "y"):
        complete(backend, ask(prompt))
    assert (backend.calls, backend.requests) == (2, [])
