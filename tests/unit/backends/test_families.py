"""The table of families of models, and what refusals add to it."""

from __future__ import annotations

import datetime
import re
from typing import get_args

import pytest

from rlaif.backends.families import (
    Acceptance,
    Api,
    Lessons,
    Thinking,
    families,
    family_of,
    most_output_tokens,
    table_date,
    thinking_room,
)
from rlaif.errors import ConfigError
from rlaif.types import Sampling

PLAIN, LOW = Sampling(), Sampling(reasoning="low")
ALL = [(provider, family) for provider in ("openai", "anthropic") for family in families(provider)]


def test_the_table_is_dated_and_whole() -> None:
    assert datetime.date(2026, 11, 1) <= table_date() <= datetime.date.today()  # noqa: DTZ011
    assert thinking_room()["none"] == 0
    assert sorted(thinking_room().values()) == list(thinking_room().values())


@pytest.mark.parametrize(("provider", "family"), ALL, ids=lambda x: getattr(x, "pattern", x))
def test_every_entry_holds_words_that_are_known(provider: str, family: object) -> None:
    from rlaif.backends.families import Family

    assert isinstance(family, Family)
    re.compile(family.pattern)
    assert family.api in get_args(Api)
    assert (family.api == "messages") == (provider == "anthropic")
    assert {family.sampling, family.logprobs} <= set(get_args(Acceptance))
    assert family.thinking in get_args(Thinking)
    assert family.default in thinking_room()
    assert set(family.reasoning or ()) <= set(thinking_room())
    assert family.default == "none" or family.default in (family.reasoning or ())


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_entry_is_reached_and_the_last_takes_any_name(provider: str) -> None:
    assert family_of(provider, "somebody/else's model").pattern == ".*"
    names = {
        "openai": "gpt-4o-mini-search-preview gpt-4-turbo gpt-4.1-mini o3-mini gpt-5-chat-latest "
        "gpt-5.2-chat-latest gpt-5-pro gpt-5-mini gpt-5.1-codex-max gpt-5.4 gpt-5.5 gpt-6.1-sol x",
        "anthropic": "claude-3-5-haiku-20241022 claude-3-opus-20240229 claude-opus-4-5-20251101 "
        "claude-sonnet-4-5 claude-opus-4-6 claude-sonnet-4-6 claude-opus-4-8 claude-sonnet-4-0 "
        "claude-opus-5-5 claude-sonnet-5 x",
    }
    found = [family_of(provider, name) for name in names[provider].split()]
    assert found == list(families(provider))


def test_a_date_or_an_alias_does_not_change_the_family() -> None:
    for name in ("gpt-5-mini", "gpt-4.1", "o3"):
        assert family_of("openai", f"{name}-2025-04-14") is family_of("openai", name)
    assert family_of("anthropic", "claude-opus-4-1-20250805").thinking == "budget"
    assert family_of("anthropic", "claude-opus-4-7-20260416").thinking == "adaptive"


def test_some_models_take_parameters_only_while_they_do_not_reason() -> None:
    family = family_of("openai", "gpt-5.1")
    for feature in ("temperature", "top_p", "logprobs"):
        assert family.takes(feature, PLAIN)
        assert family.takes(feature, Sampling(reasoning="none"))
        assert not family.takes(feature, LOW)
    assert family.takes("seed", LOW)
    assert not family_of("openai", "o3").takes("temperature", PLAIN)


def test_what_a_model_that_never_reasons_is_told_about_reasoning_is_not_sent() -> None:
    family = family_of("openai", "gpt-4.1")
    assert family.effort(LOW) is None
    assert not family.reasons(LOW)
    assert family.takes("temperature", LOW)


def test_room_for_thinking_comes_beside_the_reply() -> None:
    sampling = Sampling(max_tokens=100)
    assert family_of("openai", "gpt-4.1").most_output(sampling) == 100
    assert family_of("openai", "gpt-5").most_output(sampling) == 100 + thinking_room()["medium"]
    claude = family_of("anthropic", "claude-sonnet-4-5")
    for reasoning, room in (
        (None, 0),
        ("none", 0),
        ("0", 0),
        ("5000", 5000),
        ("10", 1024),
        ("low", thinking_room()["low"]),
        ("a new word", thinking_room()["high"]),
    ):
        assert claude.room(Sampling(reasoning=reasoning)) == room


def test_the_most_that_a_call_is_charged_for_is_known_by_address() -> None:
    sampling = Sampling(max_tokens=100)
    assert most_output_tokens("openai/o3", sampling) == 100 + thinking_room()["medium"]
    assert most_output_tokens("local/smollm2-135m", sampling) == 100
    with pytest.raises(ConfigError, match="no families of models are known for server"):
        family_of("server", "x")


WORDS = {"top_p": "top_p", "temperature": "temperature", "json_schema": "json_schema"}


def test_a_lesson_is_noted_once_and_for_all() -> None:
    lessons = Lessons("openai", "new-model", WORDS)
    before = lessons.family
    refusal = "Unsupported parameter: 'temperature' is not supported with this model."
    assert lessons.learn(before, refusal)
    assert not lessons.family.takes("temperature", PLAIN)
    assert lessons.family.takes("top_p", PLAIN)
    assert lessons.learn(before, refusal)  # another call was under way
    assert not lessons.learn(lessons.family, refusal)
    assert lessons.corrections == ["new-model does not take temperature: not sent from now on"]


@pytest.mark.parametrize(
    "said", ["temperature: must be at most 1", "seed is not supported", "temperatures unsupported"]
)
def test_what_is_no_refusal_of_a_parameter_teaches_nothing(said: str) -> None:
    lessons = Lessons("openai", "m", WORDS)
    assert not lessons.learn(lessons.family, said)
    assert lessons.corrections == []


def test_an_api_that_was_left_is_not_gone_back_to() -> None:
    lessons = Lessons("openai", "m", WORDS)
    first = lessons.family
    assert lessons.switch(first, "responses")
    assert lessons.switch(first, "responses")  # another call was under way
    second = lessons.family
    assert second.api == "responses"
    assert not lessons.switch(second, "chat")
    assert lessons.corrections == ["m does not take the chat API: not sent from now on"]
