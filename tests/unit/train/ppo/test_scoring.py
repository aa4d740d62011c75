"""What rewards of held-out prompts rose by."""

from __future__ import annotations

import pytest

from rlaif.train.ppo.scoring import gain


def test_a_gain_is_paired_by_prompt() -> None:
    found = gain([0.0, 10.0, -5.0, None, 3.0], [1.0, 11.0, -3.5, 9.0, None])
    assert found is not None
    assert found["mean"] == pytest.approx(3.5 / 3)
    # the prompts differ by far more than what each gained: t of 2 degrees times s / sqrt(3)
    assert found["high"] - found["mean"] == pytest.approx(4.3027 * 0.288675 / 3**0.5, rel=1e-4)
    assert found["low"] + found["high"] == pytest.approx(2 * found["mean"])
    assert found["n"] == 3


def test_of_fewer_than_two_prompts_there_is_no_gain() -> None:
    assert gain([0.0, None], [1.0, 1.0]) is None
