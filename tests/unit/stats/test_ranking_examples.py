"""The examples in the module docstrings run as they stand."""

import importlib
import textwrap

import pytest

MODULES = ["bradley_terry", "bootstrap", "length_control", "style", "ranks"]


@pytest.mark.parametrize("name", MODULES)
def test_example(name):
    text = importlib.import_module(f"rlaif.stats.{name}").__doc__
    paragraphs = text.split("\n\n")
    start = next(k for k, part in enumerate(paragraphs) if part.startswith("    from rlaif"))
    end = next(k for k in range(start, len(paragraphs)) if not paragraphs[k].startswith("    "))
    code = textwrap.dedent("\n\n".join(paragraphs[start:end]))
    assert "assert " in code
    exec(compile(code, name, "exec"), {})
