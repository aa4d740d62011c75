"""The values that flow through rlaif: frozen, plain, the same in memory and on disk.

`Verdict` is the one record that scores, preference rows, rewards and leaderboards derive from;
`verdict.as_dict()` is a line of `verdicts.jsonl` and `Verdict.from_dict` reads it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Literal, get_args

from rlaif.canonical import digest, quick_digest, remembered, spelled
from rlaif.errors import Cause, SpecError

Role = Literal["system", "user", "assistant"]
Winner = Literal["A", "B", "tie"]
Shown = Literal["AB", "BA"]
Kind = Literal["score", "comparison", "ranking"]
Status = Literal["ok", "no_verdict"]
FinishReason = Literal["stop", "length", "refusal"]
Task = Literal["reply", "likelihood", "reward"]
"""What a request wants: a reply to the messages, log-probabilities of the last message, or what a
classifier gives the last message, as JSON."""

PreferenceSource = Literal["tokens", "verdict", "draws", "likelihood", "reward"]
"""Label token probabilities, the verdict as given, several verdicts, likelihoods, or rewards."""

CAUSES: tuple[Cause, ...] = get_args(Cause)
_STRICT: dict[str, Any] = {"extra": "forbid"}
_EQUAL_NATS = 1e-9
_CANDIDATES: Mapping[Kind, int] = {"score": 1, "comparison": 2}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    role: Role
    content: str


Messages = tuple[Message, ...]


def assistant_text(messages: Messages) -> str:
    """What the assistant says in `messages`, turns joined by a blank line."""
    if len(messages) == 1 and messages[0].role == "assistant":  # nearly always
        return messages[0].content
    return "\n\n".join(m.content for m in messages if m.role == "assistant")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model draws its reply."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 1024
    """Most tokens of the reply."""
    seed: int | None = None
    """Passed to backends that take one; draws of one request differ by `Request.draw`."""
    reasoning: str | None = None
    """How much a reasoning model thinks: its provider's word for it (`low`), or a number of tokens.
    `None` leaves it to the provider."""


_NO_CODE = "________"


@dataclass(frozen=True, slots=True)
class Request:
    """All that can change a completion, except the model."""

    messages: Messages
    sampling: Sampling = Sampling()
    draw: int = 0
    """Number of this draw: equal requests with other draws are other requests."""
    top_logprobs: int = 0
    """How many log-probabilities to return for each token of the reply; 0 for none."""
    task: Task = "reply"
    """With `likelihood` the last message is the assistant's, and its tokens are scored as given."""
    choices: tuple[str, ...] = ()
    """The reply is one of these, where the backend can hold the model to it; the `top` of its first
    token then has their log-probabilities, however small. Empty: any reply."""
    json_schema: Mapping[str, Any] | None = None
    """The reply is JSON of this schema, where the backend can hold the model to it."""
    shared: int = field(default=0, compare=False)
    """Characters at the start of the last message that further requests will begin with too, after
    the same messages: where a provider's prompt cache is worth a mark. It changes no reply."""
    code: str = field(default="", compare=False)
    """A word in the messages that a home's secret decides and that means nothing, such as the code
    in the tags around judged text: the digest has another in its place, the same in every home."""
    _known: tuple[str, str] | None = field(default=None, init=False, repr=False, compare=False)
    """The backend that the digest was last asked for, and that digest: a prompt is long, and judge,
    cache and batch all ask."""

    def digest(self, identity: str) -> str:
        """Key of this request to the backend called `identity`: 64 hex digits.

        Raises:
            ValueError: a number of the sampling or of the JSON schema is not finite.
        """
        if self._known is None or self._known[0] != identity:
            key = None
            if self.json_schema is None:  # whose numbers may be none that JSON has
                key = quick_digest({"backend": identity, "request": self._told(_spelled)})
            if key is None:
                key = digest({"backend": identity, "request": self._told(as_dict)})
            known = (identity, key)
            object.__setattr__(self, "_known", known)
            return known[1]
        return self._known[1]

    def _told(self, spell: Callable[[Any], Any]) -> dict[str, Any]:
        """What can change the reply, `spell` saying how the parts stand in it that recur.

        Fields that came later are left out where they say nothing: replies kept before are found.
        """
        told: dict[str, Any] = {
            "messages": [self._without_code(message, spell) for message in self.messages],
            "sampling": spell(self.sampling),
            "draw": self.draw,
            "top_logprobs": self.top_logprobs,
            "task": self.task,
        }
        if self.choices:
            told["choices"] = list(self.choices)
        if self.json_schema is not None:
            told["json_schema"] = as_dict(self.json_schema)
        return told

    def _without_code(self, message: Message, spell: Callable[[Any], Any]) -> Any:
        content = message.content
        if self.code and self.code in content:
            content = content.replace(self.code, _NO_CODE)
        elif message.role == "system":  # instructions recur
            return spell(message)
        return {"role": message.role, "content": content}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of a reply, with what else the model might have said there."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    token: str
    logprob: float
    """Nats."""
    top: tuple[tuple[str, float], ...] = ()
    """(token, log-probability in nats), most likely first."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, or of many."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    input: int = 0
    cached_input: int = 0
    """Part of `input` that the provider read from its prompt cache."""
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached_input + other.cached_input,
            self.output + other.output,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """What a backend returned for a request."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    text: str
    finish_reason: FinishReason = "stop"
    """`length`: cut at `max_tokens`; `refusal`: the provider or the model declined."""
    model: str = ""
    """The model id as the provider reported it."""
    tokens: tuple[TokenLogprob, ...] = ()
    """Log-probabilities, token by token, where asked for and available."""
    thinking: str = ""
    """Reasoning text that the model keeps apart from its reply."""
    usage: Usage = Usage()
    latency_s: float = 0.0
    cached: bool = False
    """Whether it came from the reply store."""
    cost_usd: float | None = None
    """What it cost when it was asked; `None` where the price is not known."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt to judge responses for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    id: str
    prompt: Messages
    reference: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response in play."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    id: str
    response: Messages
    model: str | None = None

    @property
    def text(self) -> str:
        """What the assistant said, turns joined by a blank line."""
        return assistant_text(self.response)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt and two candidates, in the order the judge sees them."""

    item: Item
    a: Candidate
    b: Candidate

    def swapped(self) -> Comparison:
        """The same comparison with the candidates the other way round."""
        return Comparison(self.item, self.b, self.a)


@dataclass(frozen=True, slots=True)
class RubricRef:
    """Which rubric, to the letter."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class JudgeRef:
    """Who judged, and how."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    model: str
    method: str
    """`verdict` (marks, soft where tokens have probabilities), `token`, `expectation`, `checklist`
    or `likelihood`, and what differs from its usual: `verdict, 5 levels, 3 draws`. A comparison by
    `scores` names how they come about: `scores, expectation`."""
    sampling: Sampling
    rubric: RubricRef | None = None
    members: tuple[JudgeRef, ...] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A pointwise verdict."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    value: float
    min: float
    max: float
    distribution: Mapping[str, float] | None = None
    """P(level), where the score tokens have probabilities or the judge was asked several times."""
    criteria: Mapping[str, Mapping[str, Any]] | None = None
    """Per criterion: `value`, `min`, `max`, `weight` and, where known, `distribution`."""
    missing_mass: float | None = None
    """Probability that lay on no level, before `distribution` was normalized."""


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """What the judge said when shown one order; A is `candidates[0]` in either."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    shown: Shown
    winner: Winner
    p_a: float
    draws: int | None = None
    """How many draws `p_a` is the mean of, where there were several."""
    level: str | None = None
    """The verdict on a finer scale than winner, in terms of A and B: `A>>B`, `A>B`, `A=B` …"""
    source: PreferenceSource | None = None
    """Where `p_a` comes from."""
    missing_mass: float | None = None
    """Probability that lay on no label, before `p_a` was normalized."""


@dataclass(frozen=True, slots=True)
class Preference:
    """A pairwise verdict over the orders asked; A is `candidates[0]`, whatever was shown first."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    winner: Winner
    p_a: float
    """P(A preferred), mean over orders."""
    orders: tuple[OrderVerdict, ...]
    consistent: bool
    """Whether every order gave the same winner."""


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """What came of one pair that a ranking rests on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    a: str
    b: str
    p_a: float | None = None
    """P(a preferred), over both orders; `None` where there is no verdict."""
    cause: Cause | None = None
    members: tuple[float | None, ...] | None = None
    """Of a panel, what each of its judges said: P(a preferred), in the order of `judge.members`."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A listwise verdict."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    order: tuple[str, ...]
    """Candidate ids, best first."""
    strengths: Mapping[str, float]
    """Nats, mean zero."""
    comparisons: int
    low: Mapping[str, float] | None = None
    """Lower ends of intervals of the strengths, which hold together at `level`."""
    high: Mapping[str, float] | None = None
    level: float | None = None
    settled: bool | None = None
    """Whether the wanted order is, at `level`, the one that all pairs would give."""
    unsettled: tuple[tuple[str, str], ...] | None = None
    """Neighbors in the order, better one first, that the strengths do not tell apart at `level`."""
    triples: int | None = None
    """Triples of candidates that all met."""
    cycles: int | None = None
    """Those of them in which each beats the next."""
    pairs: tuple[PairOutcome, ...] | None = None
    """Every pair that was asked, in that order."""

    def before(self, a: str, b: str) -> float:
        """1 where the candidate `a` stands before `b`, 0 behind, 0.5 where they are equally strong.

        Responses that are the same share a place, though one of them is named first in `order`.
        """
        if abs(self.strengths.get(a, 1.0) - self.strengths.get(b, 0.0)) <= _EQUAL_NATS:
            return 0.5
        return float(self.order.index(a) < self.order.index(b))


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a backend that a verdict rests on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    digest: str
    reply: str
    usage: Usage
    latency_s: float
    cached: bool
    shown: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class MemberVerdict:
    """What one judge of a panel or a cascade said."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    judge: int
    """Its place in `judge.members`."""
    calls: int
    """How many of the verdict's calls are its own; they follow those of the member before it."""
    cause: Cause | None = None
    """Why it has no verdict."""
    score: Score | None = None
    preference: Preference | None = None
    ranking: Ranking | None = None
    rationale: str | None = None
    instead_of: int | None = None
    """The place of the judge that it stands in for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said about an item: the record that everything else derives from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    id: str
    kind: Kind
    item: Item
    candidates: tuple[Candidate, ...]
    judge: JudgeRef
    status: Status
    cause: Cause | None = None
    score: Score | None = None
    preference: Preference | None = None
    ranking: Ranking | None = None
    rationale: str | None = None
    calls: tuple[Call, ...] = ()
    flags: Mapping[str, tuple[str, ...]] | None = None
    """Candidate id to what detectors noticed in it, such as `verdict_shaped`; never hidden."""
    members: tuple[MemberVerdict, ...] | None = None
    """Of a panel or a cascade, what each judge that was asked said."""
    schema: int = 1

    def as_dict(self) -> dict[str, Any]:
        """A line of `verdicts.jsonl`: absent fields are left out."""
        return {"schema": self.schema, **as_dict(self)}

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Verdict:
        """Read a line of `verdicts.jsonl`.

        Raises:
            SpecError: a field is missing, unknown, of the wrong type, or contradicts another.
        """
        from pydantic import ValidationError

        try:
            verdict: Verdict = _verdict_adapter().validate_python(row)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise SpecError(first["msg"], field=".".join(map(str, first["loc"]))) from None
        verdict.check()
        return verdict

    def check(self) -> None:
        """Raise `SpecError` unless status, cause, kind, payload and candidates agree."""
        payload = {"score": self.score, "comparison": self.preference, "ranking": self.ranking}
        if self.schema != 1:
            raise SpecError(f"schema {self.schema} is not 1", field="schema")
        if self.status == "ok" and self.cause is not None:
            raise SpecError("an ok verdict has no cause", field="cause")
        if self.status == "no_verdict" and self.cause is None:
            raise SpecError("a verdict without a reading needs its cause", field="cause")
        present = [kind for kind, value in payload.items() if value is not None]
        if present != ([self.kind] if self.status == "ok" else []):
            raise SpecError(f"{self.status} {self.kind} verdict carries {present}", field="kind")
        n = len(self.candidates)
        if n != _CANDIDATES.get(self.kind, n):
            message = f"a {self.kind} verdict has {_CANDIDATES[self.kind]}, found {n}"
            raise SpecError(message, field="candidates")
        if self.preference is not None:
            _check_preference(self.preference)
        if self.ranking is not None:
            _check_ranking(self.ranking, {one.id for one in self.candidates})


def _check_preference(preference: Preference) -> None:
    """Raise `SpecError` unless the winner stands on its side of p_a, and p_a is a probability."""
    if not 0 <= preference.p_a <= 1:
        raise SpecError(f"{preference.p_a} is no probability", field="preference.p_a")
    side = {"A": preference.p_a >= 0.5, "B": preference.p_a <= 0.5, "tie": True}
    if not side[preference.winner]:
        message = f"winner {preference.winner} contradicts p_a {preference.p_a}"
        raise SpecError(message, field="preference.winner")


def _check_ranking(ranking: Ranking, candidates: Collection[str]) -> None:
    """Raise `SpecError` unless the order names candidates, each once, and tells all of each."""
    if len(set(ranking.order)) < len(ranking.order):
        raise SpecError("names a candidate twice", field="ranking.order")
    if strange := [name for name in ranking.order if name not in candidates]:
        raise SpecError(f"{strange[0]!r} is no candidate", field="ranking.order")
    for told in ("strengths", "low", "high"):
        known = getattr(ranking, told)
        if known is not None and (lost := [name for name in ranking.order if name not in known]):
            raise SpecError(f"has nothing for {lost[0]!r}", field=f"ranking.{told}")


@cache
def _verdict_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A training row in TRL's conversational format, with where it came from."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    p_chosen: float
    """Order-averaged P(chosen preferred), 0.5..1."""
    margin: float
    """2 p_chosen - 1, 0..1."""
    consistent: bool
    verdict_id: str
    chosen_model: str | None
    rejected_model: str | None
    judge: str
    rubric: str | None

    def as_dict(self) -> dict[str, Any]:
        """The row as it is exported; every column is always there."""
        row: dict[str, Any] = as_dict(self, keep_none=True)
        return row


def as_dict(value: Any, *, keep_none: bool = False) -> Any:
    """Plain dicts, lists and scalars of a frozen value; fields that are `None` are left out."""
    kind: Any = type(value)
    if kind is Message:  # half of all that is written
        return {"role": value.role, "content": value.content}
    if kind in _SCALARS:
        return value
    if kind is tuple or kind is list:
        return [v if type(v) in _SCALARS else as_dict(v, keep_none=keep_none) for v in value]
    if (shape := _shape(kind)) is not None:
        names, values = shape
        return {
            name: inner if type(inner) in _SCALARS else as_dict(inner, keep_none=keep_none)
            for name, inner in zip(names, values(value), strict=True)
            if inner is not None or keep_none
        }
    if isinstance(value, Mapping):
        return {str(k): as_dict(v, keep_none=keep_none) for k, v in value.items()}
    listed = isinstance(value, (list, tuple))
    return [as_dict(v, keep_none=keep_none) for v in value] if listed else value


_SCALARS = frozenset({str, int, float, bool})


@remembered
def _spelled(value: Message | Sampling) -> Any:
    """Instructions or sampling, the same in all requests of a run, as digests have them."""
    return spelled(as_dict(value))


@cache
def _shape(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """The public fields of a dataclass and what gets all their values at once, else None."""
    if not is_dataclass(kind):
        return None
    names = tuple(f.name for f in fields(kind) if not f.name.startswith("_"))
    if len(names) < 2:  # of a single name `attrgetter` gets no tuple
        return names, lambda value: tuple(getattr(value, name) for name in names)
    return names, attrgetter(*names)
