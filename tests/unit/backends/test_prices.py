"""Prices: what they come to, who they are for, and files that are wrong."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.prices import (
    LongPrompt,
    Price,
    load_prices,
    read_price_file,
    shipped_prices,
)
from rlaif.errors import SpecError
from rlaif.types import Usage

SONNET = Price(input=3.0, output=15.0, cached_input=0.3, cache_write=3.75, batch_discount=0.5)
LONG = Price(input=2.0, output=10.0, cached_input=0.1, long_prompt=LongPrompt(1000, 2.0, 1.5))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.yaml"


def test_cached_input_is_part_of_the_input_and_cheaper() -> None:
    usage = Usage(input=1000, cached_input=800, output=100)
    assert SONNET.cost_usd(usage) == pytest.approx((200 * 3 + 800 * 0.3 + 100 * 15) / 1e6)
    assert SONNET.cost_usd(usage, batch=True) == pytest.approx(SONNET.cost_usd(usage) / 2)
    assert Price(1.0, 2.0).cost_usd(usage) == pytest.approx((1000 + 200) / 1e6)


def test_a_call_may_have_a_price_of_its_own() -> None:
    assert Price(per_call_usd=0.001).cost_usd(Usage(10_000, 0, 10_000)) == 0.001
    assert Price(input=1.0, per_call_usd=0.001).cost_usd(Usage(1000)) == pytest.approx(0.002)


def test_a_long_prompt_makes_the_whole_call_dearer() -> None:
    assert LONG.cost_usd(Usage(1000, 500, 10)) == pytest.approx((1000 + 50 + 100) / 1e6)
    assert LONG.cost_usd(Usage(1001, 501, 10)) == pytest.approx((2 * 1050.1 + 1.5 * 100) / 1e6)


@given(
    st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 500), st.booleans(), st.booleans()
)
def test_no_call_costs_more_than_the_most(
    tokens: int, cached: int, output: int, batch: bool, long: bool
) -> None:
    price = LONG if long else SONNET
    used = price.cost_usd(Usage(tokens, min(cached, tokens), output), batch=batch)
    assert used <= price.most_usd(tokens, output, batch=batch) + 1e-15


def test_the_most_counts_writing_the_cache() -> None:
    assert SONNET.most_usd(1_000_000, 0) == pytest.approx(3.75)


def test_the_shipped_prices_are_dated_and_whole() -> None:
    shipped = read_price_file(shipped_prices())
    assert shipped.date
    assert datetime.date.fromisoformat(shipped.date) <= datetime.date(2100, 1, 1)
    for name, price in shipped.models.items():
        assert name.startswith(("openai/", "anthropic/"))
        assert 0 < price.input < price.output
        assert price.cached_input is None or price.cached_input < price.input
        assert price.cache_write is None or price.cache_write == price.input * 1.25
        assert price.batch_discount == 0.5
        assert price.date
        assert price.date <= shipped.date


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        # by hand, from the list prices
        ("openai/gpt-5.1", Usage(1000, 0, 200), 0.00325),
        ("openai/gpt-5.1-2025-11-13", Usage(1000, 0, 200), 0.00325),
        ("openai/gpt-4o-mini", Usage(1_000_000, 500_000, 100_000), 0.1725),
        ("anthropic/claude-sonnet-4-5-20250929", Usage(2000, 1000, 100), 0.0048),
        ("anthropic/claude-haiku-5-5", Usage(100_000, 0, 1000), 0.0105),
        ("anthropic/claude-haiku-5-5", Usage(100_001, 0, 1000), 0.0525005),
    ],
)
def test_known_costs(model: str, usage: Usage, cost: float) -> None:
    assert load_prices().cost_usd(model, usage) == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize(
    "model", ["openai/gpt-5.1-codex", "openai/gpt-5.12", "server/gpt-5.1", "openai/my-deployment"]
)
def test_another_model_is_not_priced_by_a_name_that_begins_the_same(model: str) -> None:
    assert load_prices().cost_usd(model, Usage(1)) is None


@pytest.mark.parametrize("model", ["local/smollm2-135m", "scripted/x.jsonl", "reward/path"])
def test_what_runs_here_is_free_unless_a_file_gives_it_a_price(model: str, file: Path) -> None:
    assert load_prices().cost_usd(model, Usage(1000, 0, 1000)) == 0.0
    file.write_text("models: {'*/*': {per_call_usd: 2}}")
    assert load_prices(file).cost_usd(model, Usage()) == 2.0


def test_own_prices_come_before_shipped_ones_and_the_longest_pattern_counts(file: Path) -> None:
    file.write_text(
        "date: 2026-11-20\n"
        "models:\n"
        "  openai/gpt-5.1: {input: 1, output: 1}\n"
        "  server/*: {input: 2, output: 2}\n"
        "  server/big-*: {input: 3, output: 3, date: 2026-11-21}\n"
        "  server/big-model: {input: 4, output: 4}\n"
    )
    table = load_prices(file)
    assert [table.cost_usd(m, Usage(1_000_000)) for m in (
        "openai/gpt-5.1-2025-11-13", "openai/gpt-5", "server/x", "server/big-x", "server/big-model"
    )] == [1, 1.25, 2, 3, 4]  # fmt: skip
    dates = [table.price(m).date for m in ("server/x", "server/big-x")]  # type: ignore[union-attr]
    assert dates == ["2026-11-20", "2026-11-21"]


def test_of_two_files_the_first_counts(tmp_path: Path) -> None:
    files = []
    for n in (1, 2):
        files.append(tmp_path / f"{n}.yaml")
        files[-1].write_text(f"models: {{server/x: {{per_call_usd: {n}}}}}")
    assert load_prices(*files).cost_usd("server/x", Usage()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []", ":1: field 'models': should be a mapping of addresses to prices"),
        ("date: 2026-01-01", "field 'models': should be a mapping of addresses to prices"),
        ("modles: {}", ":1: field 'modles': is not a known field; did you mean 'models'?"),
        (
            "models:\n  gpt-5: {input: 1, output: 2}",
            ":2: field 'models.gpt-5': should be an address, provider/name",
        ),
        ("models:\n  a/b: 3", ":2: field 'models.a/b': should be {input, output}, found the num"),
        ("models:\n  a/b: {input: 1}", ":2: field 'models.a/b': lacks output, US dollars per mil"),
        (
            "models:\n  a/b:\n    input: 1\n    output: cheap",
            ":4: field 'models.a/b.output': should be a number of 0 or more, found the text",
        ),
        (
            "models: {a/b: {input: -1, output: 2}}",
            "field 'models.a/b.input': should be a number of 0 or more, found the number -1",
        ),
        ("models: {a/b: {input: .nan, output: 2}}", "input': should be a number of 0 or more"),
        ("models: {a/b: {input: true, output: 2}}", "input': should be a number of 0 or more"),
        (
            "models: {a/b: {per_call_usd: 1, batch_discount: 50}}",
            "batch_discount': should be a number from 0 to 1, found the number 50",
        ),
        (
            "models: {a/b: {input: 1, outptu: 2}}",
            "field 'models.a/b.outptu': is not a known field; did you mean 'output'",
        ),
        ("models: {a/b: {per_call_usd: 1, long_prompt: 3}}", "should be {over, input_times, outp"),
        (
            "models: {a/b: {per_call_usd: 1, long_prompt: {over: 3, input_times: 1}}}",
            "field 'models.a/b.long_prompt': lacks output_times",
        ),
        ("models: {a/b: {per_call_usd: 1, long_prompt: {above: 3}}}", "long_prompt.above': is not"),
        ("date: soon\nmodels: {a/b: {per_call_usd: 1}}", "field 'date': should be a date, YYYY-"),
        ("models: {a/b: {per_call_usd: 1, date: 5}}", "models.a/b.date': should be a date, YYYY"),
    ],
)
def test_a_wrong_file_names_line_and_field(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_prices(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_prices(file)
