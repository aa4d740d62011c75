from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator

import pytest
import typer

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
        "judging: 32/100, 2.1/s, 0:00:32 left, coverage 100%",
        "judging: 62/100, 2.0/s, 0:00:19 left, coverage 100%",
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
        "training: 7/9, 0.3/s, 0:00:07 left, loss 0.5",
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
        bar.reach(1, 4, "coverage 50%")
        for _ in range(3):
            time.sleep(0.12)  # so that it is drawn
            bar.advance(1, "coverage 75%")
    shown = terminal.getvalue()
    assert capsys.readouterr().out == ""
    assert ("judging" in shown) == (not quiet)
    assert ("4/4" in shown) == (not quiet)
    assert ("coverage 75%" in shown) == (not quiet)
    assert ("/s" in shown) == (not quiet)


def test_a_bar_is_not_drawn_at_every_step(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with output.progress_bar("judging", 1000) as bar:
        drawn: list[float] = []
        monkeypatch.setattr(bar, "draw", lambda: drawn.append(clock.now))
        for step in range(1000):
            clock.now = step / 1000
            bar.advance()
    assert 9 <= len(drawn) <= 11  # and once at the end


def test_counting_reads_everything(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def slowly() -> Iterator[int]:
        for step in range(20):
            clock.now += 1.0
            yield step

    assert output.counted(slowly()) == 20
    assert capsys.readouterr().err == "reading: 15, 1.0/s\n"
    assert output.counted([]) == 0


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


def test_names_in_a_table_are_text_wherever_they_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table("by [/x] \ud800", ("[b]a", "[/y]"), [("[/z]", "\x1b")], note="of [/n]\ntwo")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == r"by [/x] \ud800"
    assert lines[2].split() == ["[b]a", "[/y]"]
    assert lines[4].split() == ["[/z]", r"\x1b"]
    assert lines[-3:-1] == ["of [/n]", "two"]


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


def _printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_off_a_terminal_a_table_is_as_wide_as_it_needs_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    names = [f"a column of {n} words" for n in "abcdefgh"]
    output.table("t", names, [["x" * 20] * 8], note="a note")
    lines = _printed(capsys)
    assert any(line.split() == " ".join(names).split() for line in lines)
    assert any(line.split() == ["x" * 20] * 8 for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert lines[-2:] == ["a note", ""]
    output.table("t", ["long"], [["y" * 1000]])
    assert 200 < max(map(len, _printed(capsys))) <= 240


def test_a_narrow_table_breaks_neither_headers_nor_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    output.table("t", ["a name", "comparisons", "strength"], [["long-" * 12, 12345, -0.123]])
    shown = "\n".join(lines := _printed(capsys))
    assert max(map(len, lines)) <= 44
    assert all(
        f" {word} " in f" {' '.join(shown.split())} " for word in ("comparisons", "strength")
    )
    assert "12345" in shown
    assert "-0.123" in shown
    monkeypatch.setenv("COLUMNS", "20")  # where that cannot be, everything is shown all the same
    output.table("t", ["comparisons", "strength"], [[12345, -0.123]])
    assert max(map(len, _printed(capsys))) <= 20


def test_a_table_without_a_header_has_a_rule_under_its_title(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.table("judged", ("", ""), [("n", 3), ("without", "none")])
    assert _printed(capsys) == [
        "judged",
        " ────────────────",
        "  n         3",
        "  without   none",
        "",
    ]


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
    from rlaif.cli.output import fail_over_limit

    if code is None:
        fail_over_limit({"n": 100, "ok": ok, "causes": {}}, 0.05)
        assert capsys.readouterr().err == ""
    else:
        with pytest.raises(typer.Exit) as caught:
            fail_over_limit({"n": 100, "ok": ok, "causes": {}}, 0.05)
        assert caught.value.exit_code == 1
        assert "have no verdict, over the limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"causes": {"budget": 2}}, 3, "the budget is spent, 2 of the draws failed"),
        ({"causes": {"budget": 2}, "budget_usd": 1.5}, 3, "the budget of $1.5 is spent, 2 of"),
        ({"causes": {"budget": 2}, "interrupted": True}, 130, "interrupted after 4: finished work"),
    ],
)
def test_a_run_that_was_cut_short_says_why_before_it_counts_failures(
    more: dict[str, object], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught:
        output.fail_over_limit({"n": 4, "ok": 0, **more}, 0.05, "draws failed")
    assert caught.value.exit_code == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"cost_usd": 1.25, "cost_saved_usd": 0.5}, "cost $1.2500, $0.5000 saved by the store"),
        ({"calls_unpriced": 3}, "cost 3 calls at a price that is not known"),
        ({"cost_presumed_usd": 0.25}, "cost up to $0.2500 for calls that got no answer"),
        ({"retries": {"rate_limit": 4, "server": 1}}, "asked again 4 rate_limit, 1 server"),
        ({"interrupted": True}, "judged, a part"),
    ],
)
def test_a_summary_tells_cost_and_retries(
    more: dict[str, object],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tokens = {"input": 1, "cached_input": 0, "output": 1}
    summary = {"n": 1, "coverage": 1.0, "causes": {}, "calls": 1, "calls_cached": 0, "wall_s": 1.0}
    output.summary_table("judged", summary | {"tokens": tokens} | more, [])
    assert shown in " ".join(capsys.readouterr().out.split())
