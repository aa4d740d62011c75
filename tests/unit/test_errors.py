from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from rlaif import errors
from rlaif.errors import (
    BackendError,
    ConfigError,
    DataError,
    RlaifError,
    SpecError,
    StoreError,
    VerdictError,
    suggestion,
)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({}, "is wrong"),
        ({"field": "a.0.b"}, "field 'a.0.b': is wrong"),
        ({"path": "x.yaml"}, "x.yaml: is wrong"),
        ({"path": Path("d/x.yaml"), "line": 7}, "d/x.yaml:7: is wrong"),
        ({"path": "x.yaml", "line": 7, "field": "a"}, "x.yaml:7: field 'a': is wrong"),
        ({"path": "x.yaml", "field": "a"}, "x.yaml: field 'a': is wrong"),
    ],
)
def test_a_spec_error_says_where(where: dict[str, object], text: str) -> None:
    error = SpecError("is wrong", **where)  # type: ignore[arg-type]
    assert str(error) == text
    assert error.message == "is wrong"
    assert error.path == (str(where["path"]) if "path" in where else None)
    assert (error.line, error.field) == (where.get("line"), where.get("field"))


def test_a_backend_error_says_whether_to_try_again() -> None:
    plain = BackendError("down")
    assert (str(plain), plain.retryable, plain.retry_after, plain.fatal) == (
        *("down", False, None, False),
    )
    full = BackendError("slow", retryable=True, retry_after=2.5, fatal=True)
    assert (full.retryable, full.retry_after, full.fatal) == (True, 2.5, True)


def test_a_verdict_error_keeps_the_cause_and_the_reply() -> None:
    error = VerdictError("no mark", cause="unreadable", reply="Both.")
    assert (str(error), error.cause, error.reply) == ("no mark", "unreadable", "Both.")
    assert VerdictError("no mark", cause="refused").reply == ""


@pytest.mark.parametrize("kind", [SpecError, ConfigError, DataError])
def test_what_is_wrong_with_values_is_a_value_error(kind: type[RlaifError]) -> None:
    assert issubclass(kind, ValueError)


def test_every_error_is_ours_and_in_the_tree_of_the_docstring() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert all(issubclass(kind, RlaifError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert not issubclass(StoreError, ValueError)


def test_errors_without_fields_of_their_own_survive_a_process_border() -> None:
    for error in (ConfigError("a"), DataError("b"), StoreError("c")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("helpfulnes", ["honesty", "helpfulness"], "did you mean 'helpfulness'?"),
        ("opnai", ["openai", "local"], "did you mean 'openai'?"),
        ("m1x", ["m1a", "m1b", "zzz"], "did you mean 'm1b' or 'm1a'?"),
        ("xyz", ["b", "a"], "known: a, b"),
        ("xyz", [], "none are known"),
        ("xyz", {"only": 1}, "known: only"),
    ],
)
def test_a_suggestion_is_the_nearest_names_or_all(name: str, known, text: str) -> None:
    assert suggestion(name, known) == text
