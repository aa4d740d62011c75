import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from rlaif.errors import DataError
from rlaif.stats.means import mean_interval
from rlaif.stats.power import paired_differences, prompts_needed, sample_size


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_sample_size_is_that_of_the_exact_t_test(effect, power):
    exact = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=power)
    assert sample_size(effect, 1.0, power=power) == pytest.approx(np.ceil(exact), abs=1)


def test_sample_size_by_hand():
    # (1.960 + 0.842)^2 / 0.5^2 = 31.4, and 1.96^2 / 2 = 1.9 for Student's t.
    assert sample_size(0.5, 1.0) == sample_size(-5, 10.0) == 34
    assert sample_size(0.0, 1.0) is None
    assert sample_size(5.0, 0.001) == 2


@given(st.floats(0.01, 1), st.floats(0.01, 2))
def test_smaller_effects_need_more(effect, spread):
    assert sample_size(effect / 2, spread) >= sample_size(effect, spread)
    assert sample_size(effect, spread, power=0.9) >= sample_size(effect, spread)
    assert sample_size(effect, spread, level=0.99) >= sample_size(effect, spread)


def test_what_is_still_missing():
    differences = np.r_[np.full(30, 0.6), np.full(20, -0.6)]
    found = prompts_needed(differences)
    interval = mean_interval(differences)
    assert (found.difference, found.se, found.low) == (interval.value, interval.se, interval.low)
    assert not found.separated
    spread = differences.std(ddof=1)
    assert found.needed == sample_size(0.12, spread)
    assert found.more == found.needed - 50
    assert found.needed_if_larger == sample_size(interval.high, spread)
    assert found.needed_if_smaller is None
    assert (found.n_prompts, found.level, found.power) == (50, 0.95, 0.8)


def test_separated_models_need_no_more():
    rng = np.random.default_rng(0)
    found = prompts_needed(rng.normal(-1, 1, 12), power=0.999)
    assert found.separated
    assert found.more == 0
    assert found.needed > 12  # to be as sure of it again
    assert found.needed_if_larger < found.needed < found.needed_if_smaller


def test_equal_models_are_never_separated():
    found = prompts_needed([1, -1, 1, -1])
    assert (found.needed, found.more, found.separated) == (None, None, False)


def test_rows_of_a_prompt_are_one_prompt():
    values = np.random.default_rng(2).normal(0.2, 1, 40)
    once = prompts_needed(values)
    thrice = prompts_needed(np.repeat(values, 3), np.repeat(np.arange(40), 3).tolist())
    assert (thrice.needed, thrice.n_prompts) == (once.needed, 40)


def test_that_many_prompts_do_separate():
    rng = np.random.default_rng(6)
    n = sample_size(0.1, 0.3)
    found = sum(prompts_needed(rng.normal(0.1, 0.3, n)).separated for _ in range(1000))
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_differences_by_prompt():
    differences, prompts = paired_differences(
        [1, 0, 0.5, 1], ["p", "p", "q", "r"], [0, 1, 1], ["q", "p", "s"]
    )
    assert (differences, prompts) == ([-0.5, 0.5], ["p", "q"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prompts_needed([1, 0], power=1.0), "power"),
        (lambda: prompts_needed([1, 0], level=0.0), "level"),
        (lambda: prompts_needed([1, 0], ["p", "p"]), "one cluster"),
        (lambda: sample_size(0.1, -1.0), "no sample size"),
        (lambda: sample_size(float("nan"), 1.0), "no sample size"),
        (lambda: paired_differences([1], ["p"], [1], ["q"]), "share no prompt"),
        (lambda: paired_differences([1], ["p", "q"], [1], ["q"]), "2 prompts for 1 values"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_two_close_models_of_alpaca_eval(shared_data):
    def outcomes(model):
        folder = shared_data / "alpaca_eval" / "annotations"
        file = next(folder.glob(f"{model}.jsonl*"))
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [100 * (row["preference"] - 1) for row in rows], [row["index"] for row in rows]

    differences, prompts = paired_differences(*outcomes("vicuna-7b"), *outcomes("alpaca-7b"))
    found = prompts_needed(differences, prompts)
    assert found.n_prompts == 805
    assert (found.difference, found.se) == pytest.approx((1.571, 0.630), abs=1e-3)
    assert found.difference / found.se == pytest.approx(2.49, abs=0.01)
    assert found.separated
