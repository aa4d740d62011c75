"""A backend whose replies are written down: it stands in for every model in tests and examples.

    backend = ScriptedBackend(["Score: 4", "Score: 2"])
    backend = ScriptedBackend(lambda request: f"You said {request.messages[-1].content}")

The address `scripted/FILE` reads the replies from a JSONL file, one object a line:

    {"reply": "Score: 4"}                                  used once, in order
    {"match": "capital of France", "reply": "Paris"}       used whenever the messages hold the text
    {"reply": "A", "logprobs": [{"token": "A", "logprob": -0.1, "top": [["A", -0.1], ["B", -2.3]]}]}
    {"reply": "I would rather n", "finish_reason": "length"}
    {"error": {"message": "overloaded", "retryable": true}}

Lines with `match` are tried first, in the order of the file; `"match": ""` fits everything.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, SpecError
from rlaif.types import Completion, FinishReason, Request, TokenLogprob, Usage

Reply = str | Completion | BackendError
Script = Callable[[Request], Reply | Awaitable[Reply]]


class ScriptedBackend:
    """Answers from a function, or from a list of replies in the order of the calls.

    A reply that is a string becomes a completion whose usage counts words as tokens. A `Completion`
    is returned as it is; a `BackendError` is raised.

    Args:
        script: A function from the request to the reply (it may be a coroutine function), or the
            replies themselves.
        model: The address it goes by.
        identity: What its completions are kept under, when more than the address matters.
        record: Whether to keep every request in `requests`, which takes memory by the call.
    """

    def __init__(
        self,
        script: Script | Iterable[Reply],
        *,
        model: str = "scripted/inline",
        identity: str | None = None,
        record: bool = True,
    ) -> None:
        self._model = model
        self._identity = identity or model
        self._script: Script = script if callable(script) else _in_order(script)
        self.requests: list[Request] = []
        """Every request so far, in the order of the calls, if they are recorded."""
        self.calls = 0
        """How many requests it was asked."""
        self._record = record
        self.in_flight = 0
        self.peak_in_flight = 0
        self.closed = False

    @property
    def model(self) -> str:
        return self._model

    @property
    def identity(self) -> str:
        return self._identity

    async def complete(self, request: Request) -> Completion:
        """The reply that the script has for `request`.

        Raises:
            BackendError: the script says so, or has no reply left (then fatal).
        """
        self.calls += 1
        if self._record:
            self.requests.append(request)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        started = time.perf_counter()
        try:
            reply = self._script(request)
            if inspect.isawaitable(reply):
                reply = await reply
        finally:
            self.in_flight -= 1
        if isinstance(reply, BackendError):
            raise reply
        if isinstance(reply, Completion):
            return reply
        return replace(
            _spoken(reply, request, self._model), latency_s=time.perf_counter() - started
        )

    async def aclose(self) -> None:
        self.closed = True


def open_script(name: str, options: BackendOptions) -> ScriptedBackend:
    """The backend of the address `scripted/NAME`; it needs no option."""
    del options
    return load_script(name)


def load_script(path: str | Path) -> ScriptedBackend:
    """A backend that replies from a JSONL file; its identity changes with the file's contents.

    Raises:
        SpecError: the file cannot be read, or a line is not a reply (names file, line and field).
    """
    source = Path(path)
    try:
        content = source.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"cannot read it: {error.strerror}", path=source) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError("not UTF-8 text", path=source, line=line) from error
    lines = [
        _parse_line(line, source, number)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise SpecError("holds no replies", path=source)
    address = f"scripted/{path}"
    identity = f"{address}#sha256:{hashlib.sha256(content).hexdigest()}"
    return ScriptedBackend(_from_lines(lines), model=address, identity=identity, record=False)


_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class _Failure:
    """The `error` of a line: what `BackendError` takes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    message: str
    retryable: bool = False
    retry_after: float | None = None
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a script file."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    match: str | None = None
    reply: str | None = None
    finish_reason: FinishReason = "stop"
    logprobs: tuple[TokenLogprob, ...] = ()
    error: _Failure | None = None

    def answer(self, request: Request) -> Reply:
        """A completion as a provider would give it: log-probabilities only where asked for."""
        if self.error is not None:
            failure = self.error
            return BackendError(
                failure.message,
                retryable=failure.retryable,
                retry_after=failure.retry_after,
                fatal=failure.fatal,
            )
        spoken = _spoken(self.reply or "", request, "scripted")
        return replace(spoken, finish_reason=self.finish_reason, tokens=self._tokens(request))

    def _tokens(self, request: Request) -> tuple[TokenLogprob, ...]:
        if request.task == "likelihood":
            return self.logprobs
        if not request.top_logprobs:
            return ()
        return tuple(replace(t, top=t.top[: request.top_logprobs]) for t in self.logprobs)


def _parse_line(text: str, path: Path, number: int) -> _Line:
    from pydantic import TypeAdapter, ValidationError

    try:
        line = TypeAdapter(_Line).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        raise SpecError(first["msg"], path=path, line=number, field=field) from None
    if (line.reply is None) == (line.error is None):
        raise SpecError("give one of reply and error", path=path, line=number, field="reply")
    values = [p for t in line.logprobs for p in (t.logprob, *(lp for _, lp in t.top))]
    if not all(math.isfinite(p) and p <= 0 for p in values):
        message = "a log-probability is a finite number, 0 or below"
        raise SpecError(message, path=path, line=number, field="logprobs")
    return line


def _from_lines(lines: Iterable[_Line]) -> Script:
    lines = list(lines)
    matching = [line for line in lines if line.match is not None]
    in_order = deque(line for line in lines if line.match is None)

    def script(request: Request) -> Reply:
        asked = "\n".join(message.content for message in request.messages)
        for line in matching:
            if line.match is not None and line.match in asked:
                return line.answer(request)
        return in_order.popleft().answer(request) if in_order else _ran_out()

    return script


def _in_order(replies: Iterable[Reply]) -> Script:
    left = deque(replies)
    return lambda _: left.popleft() if left else _ran_out()


def _ran_out() -> BackendError:
    return BackendError("the script has no reply left for this request", fatal=True)


def _spoken(text: str, request: Request, model: str) -> Completion:
    asked = sum(len(message.content.split()) for message in request.messages)
    return Completion(text, model=model, usage=Usage(input=asked, output=len(text.split())))
