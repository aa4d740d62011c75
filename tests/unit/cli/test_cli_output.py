from __future__ import annotations

import io
import json
import sys

import pytest

from rlaif.cli import output


class _Clock:
    """A clock that tests set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(output, "time", made)
    return made


def test_without_a_terminal_a_plain_line_every_so_often(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.progress_bar("judging", 100) as bar:
        for step in range(40):
            clock.now = float(step)
            bar.advance(2, "coverage 100%")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "judging: 32/100, 2.1/s coverage 100%",
        "judging: 62/100, 2.1/s coverage 100%",
    ]


def test_a_quick_run_without_a_terminal_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("judging", 3) as bar:
        bar.advance()
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_total_that_is_not_known_yet_is_left_out(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.progress_bar("training", None) as bar:
        clock.now = 20.0
        bar.advance()
        clock.now = 40.0
        bar.reach(7, 9, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "training: 1, 0.1/s",
        "training: 7/9, 0.2/s loss 0.5",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_on_a_terminal_there_is_a_bar_on_standard_error(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with output.progress_bar("judging", None, quiet=quiet) as bar:
        bar.reach(2, 4, "coverage 50%")
        bar.advance(2, "coverage [bold]75%")
    shown = terminal.getvalue()
    assert capsys.readouterr().out == ""
    assert ("judging" in shown) == (not quiet)
    assert ("4/4" in shown) == (not quiet)


def test_emit_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"a": "café", "b": [1, None]})
    out, err = capsys.readouterr()
    assert err == ""
    assert "café" in out
    assert json.loads(out) == {"a": "café", "b": [1, None]}


def test_emit_escapes_what_utf8_cannot_carry(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"run": "bad \udcff name"})
    assert json.loads(capsys.readouterr().out) == {"run": "bad \udcff name"}


def test_emit_never_prints_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.emit({"mean": float("nan")})


def test_say_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("one\n  two \x1b]0;title\x07 caf\u00e9 \u202e")
    assert capsys.readouterr() == ("", "one two \\x1b]0;title\\x07 café \\u202e\n")


def test_a_table_shows_text_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = [("[bold]a[/bold]", 0.5, None), ("b\x1b[31m[/nonsense]", 12, "x")]
    output.table("things", ("name", "n", ""), rows, note="a note")
    out = capsys.readouterr().out
    assert "[bold]a[/bold]" in out
    assert "b\\x1b[31m[/nonsense]" in out
    assert "\x1b[31m" not in out
    assert "0.500" in out
    assert "None" not in out
    assert "a note" in out


def test_numbers_stand_to_the_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = [("one", 5, "5"), ("two", -1234.5, "x"), ("three", "12.5%", "")]
    output.table("t", ("name", "number", "mixed"), rows)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    one, two, three = (next(x for x in lines if f" {n} " in x) for n in ("one", "two", "three"))
    end = two.index("-1234.500") + len("-1234.500")
    assert one[end - 2 : end] == " 5"
    assert three[:end].endswith("12.5%")
    assert one.index("5", end) == two.index("x")


def test_an_empty_table_has_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.table("t", ("name", "n"), [])
    assert "name" in capsys.readouterr().out


def test_a_summary_tells_coverage_and_why_the_rest_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    summary = {
        "n": 10,
        "coverage": 0.8,
        "causes": {"refused": 1, "unreadable": 1},
        "calls": 20,
        "calls_cached": 5,
        "tokens": {"input": 100, "cached_input": 0, "output": 7},
        "wall_s": 1.25,
    }
    output.summary_table("judged", summary, [tmp_path / "verdicts.jsonl"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "coverage 80.0%" in shown
    assert "without 1 refused, 1 unreadable" in shown
    assert "calls 20 (5 from the store)" in shown
    assert "tokens 100 in, 7 out" in shown
    assert f"wrote {tmp_path}/verdicts.jsonl" in shown


@pytest.mark.parametrize(("ok", "code"), [(100, None), (95, None), (94, 1), (0, 1)])
def test_exactly_the_failure_limit_passes_and_one_more_does_not(
    ok: int, code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    from rlaif.cli.output import fail_over_limit

    if code is None:
        fail_over_limit({"n": 100, "ok": ok}, 0.05)
        assert capsys.readouterr().err == ""
    else:
        with pytest.raises(typer.Exit) as caught:
            fail_over_limit({"n": 100, "ok": ok}, 0.05)
        assert caught.value.exit_code == 1
        assert "have no verdict, over the limit" in capsys.readouterr().err
