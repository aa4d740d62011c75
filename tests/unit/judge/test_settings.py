from __future__ import annotations

import pytest

from rlaif.errors import ConfigError
from rlaif.judge.settings import Settings
from rlaif.types import Message, Sampling
from tests.builders import candidate, item, rubric


def _settings(**more: object) -> Settings:
    return Settings(sampling=Sampling(), top_logprobs=5, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws is a count from 1 up, not 0"),
        ({"draws": 3}, "3 draws at temperature 0 are one draw"),
        ({"least_mass": 1.5}, "least_mass is a probability"),
        ({"max_chars": 99}, "max_chars is 100 at least"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _settings(**options)


def test_a_reference_that_no_prompt_shows_is_refused() -> None:
    own = _settings(reference="judge")
    own.check_rubric(rubric(reference="optional"))
    with pytest.raises(ConfigError, match="shows no reference"):
        own.check_rubric(rubric(reference="none"))
    _settings().check_rubric(rubric(reference="none"))


def test_what_differs_from_the_usual_is_named() -> None:
    assert _settings().named() == []
    everything = Settings(
        sampling=Sampling(temperature=1.0),
        top_logprobs=5,
        draws=3,
        reask=False,
        structured=True,
        reference="judge",
        least_mass=0.1,
        max_chars=1000,
        too_long="cut",
    )
    assert everything.named() == [
        "3 draws",
        "own reference",
        "structured",
        "asked once",
        "least mass 0.1",
        "cut at 1000 characters",
    ]


def test_what_is_too_long_is_named() -> None:
    short, long = candidate("a", "x" * 100), candidate("b", "x" * 1234)
    settings = _settings(max_chars=1000)
    assert settings.excess(item(), (short,)) is None
    assert settings.excess(item(), (short, long)) == (
        "response 'b' has 1,234 characters, over the limit of 1,000: not asked"
    )
    assert "prompt of item 'i1' has 1,001" in (settings.excess(item(prompt="x" * 1001), ()) or "")
    assert "the reference has 1,001" in (settings.excess(item(reference="x" * 1001), ()) or "")


def test_a_long_response_is_cut_in_the_middle() -> None:
    settings = _settings(max_chars=1000, too_long="cut")
    whole = candidate("a", "a" * 600 + "b" * 600)
    assert settings.excess(item(), (whole,)) is None
    text = settings.fitted(whole).text
    assert text == "a" * 500 + "\n[… 200 characters left out …]\n" + "b" * 500
    assert settings.flags((whole,)) == {"a": ("cut",)}
    assert "prompt" in (settings.excess(item(prompt="x" * 1001), ()) or "")
    short = candidate("b", "short")
    assert settings.fitted(short) is short
    assert settings.flags((short,)) == {}


def test_every_turn_of_a_long_response_is_cut() -> None:
    from dataclasses import replace

    turns = (Message("assistant", "a" * 900), Message("user", "u"), Message("assistant", "b" * 900))
    cut = _settings(max_chars=999, too_long="cut").fitted(
        replace(candidate("a", ""), response=turns)
    )
    assert [m.role for m in cut.response] == ["assistant", "user", "assistant"]
    assert cut.response[0].content.count("a") == 333 + "[… 567 characters left out …]".count("a")
    assert cut.response[1] == turns[1]


def test_an_empty_response_is_flagged() -> None:
    assert _settings().flags((candidate("a", " \n"), candidate("b", "x"))) == {"a": ("empty",)}
