import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.numeric import logit, sigmoid


def test_sigmoid_at_its_marks():
    assert sigmoid(0.0) == 0.5
    assert sigmoid(math.log(3)) == pytest.approx(0.75)
    assert sigmoid(-50.0) == pytest.approx(math.exp(-50))
    assert sigmoid(1000.0) == 1
    assert sigmoid(-1000.0) == 0
    assert sigmoid(math.inf) == 1
    assert sigmoid(-math.inf) == 0


@given(st.floats(-700, 700))
def test_sigmoid_mirrors(x):
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1)


@given(st.floats(-30, 30))
def test_logit_undoes_sigmoid(x):
    assert logit(sigmoid(x)) == pytest.approx(x, rel=1e-2, abs=1e-9)


def test_scalars_stay_scalars_and_arrays_arrays():
    assert isinstance(sigmoid(1.0), float)
    assert isinstance(logit(0.3), float)
    table = np.array([[-1.0, 0.0], [2.0, -800.0]])
    assert sigmoid(table).shape == (2, 2)
    assert logit(np.array([0.25, 0.75])) == pytest.approx([-math.log(3), math.log(3)])


def test_floor_keeps_certainty_finite():
    assert logit(1.0, floor=1e-3) == pytest.approx(math.log(999))
    assert logit(0.0, floor=1e-3) == pytest.approx(-math.log(999))
    assert logit(0.3, floor=1e-3) == logit(0.3)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_logit_needs_a_probability(p):
    with pytest.raises(DataError, match="outside"):
        logit(p)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certainty_without_floor_is_no_number(p):
    with pytest.raises(DataError, match="floor"):
        logit(p)
