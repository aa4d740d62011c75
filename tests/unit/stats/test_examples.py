"""The example in the docstring of a statistics module runs as it stands there."""

import importlib

import pytest

MODULES = [
    "calibration",
    "coefficients",
    "correction",
    "error_rates",
    "panel",
    "power",
    "raters",
    "reliability",
    "selective",
    "votes",
]


@pytest.mark.parametrize("name", MODULES)
def test_example_of_the_module_docstring(name):
    module = importlib.import_module(f"rlaif.stats.{name}")
    example = [line[4:] for line in module.__doc__.splitlines() if line.startswith("    ")]
    assert sum(line.startswith("assert") for line in example) > 0
    exec("\n".join(example), {})
