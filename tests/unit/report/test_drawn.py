"""Blocks that draw themselves: sound HTML, hostile text inside, and errors for contradictions."""

from __future__ import annotations

import re

import pytest

from rlaif.errors import DataError
from rlaif.report.browser import MAX_CHARACTERS, MAX_FILTERS, Entry, Reply, VerdictBrowser
from rlaif.report.drawn import Bars, Cell, Held, HeldList, Matrix
from rlaif.report.page import Page, render_page
from tests.unit.report.test_page import HOSTILE, read


def entry(text="x", reading="decided", color="a", **more):
    fields = {
        "prompt": text,
        "sides": [(text, text), (text, text)],
        "replies": [Reply(text, text, text), Reply(text, text, text)],
        "facts": [(text, text)],
        "category": text,
        "models": [text, f"{text}2"],
    }
    return Entry(reading, text, color, text, text, **(fields | more))


def every_block(text):
    return [
        Matrix(text, text, [text], [(text, [Cell(text, 0.3, text)])], numbered=False, notes=text),
        Matrix(text, text, [text], [(text, [Cell(text, None, text)])], numbered=True, notes=text),
        Bars(text, [text], [(text, [0.5]), (text, [None])], 0.0, 1.0, notes=text),
        HeldList([Held(text, text, 0.1, 0.2, 0.3, None, 0.5, passed=True, note=text)]),
        VerdictBrowser([entry(text), entry(text, "failed", "fail"), *[entry(text)] * 10], text),
    ]


def test_hostile_text_adds_no_element_and_no_attribute() -> None:
    plain, hostile = read(*every_block("p" * len(HOSTILE))), read(*every_block(HOSTILE))
    tags = [tag for tag, _ in hostile.elements if tag not in ("code", "strong", "mark")]
    assert tags == [tag for tag, _ in plain.elements if tag not in ("code", "strong", "mark")]
    assert {"script", "img", "i", "b"} & set(tags) <= {"b"}
    names = {name for _, found in hostile.elements for name in found}
    assert names == {name for _, found in plain.elements for name in found}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert "".join(hostile.text).count("<img src=x onerror=alert(1)>") >= 40


def test_nothing_needs_script_or_network() -> None:
    text = render_page(Page("t", "", every_block("x")))
    assert "script-src" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"\b(?:src|href|style|action|onclick)=", text)


def test_a_matrix_needs_a_cell_for_every_column() -> None:
    with pytest.raises(DataError, match="1 cells for 2 columns"):
        read(Matrix("m", "x", ["a", "b"], [("r", [Cell("1")])]))


def test_a_matrix_shades_by_value_and_heads_columns_by_number() -> None:
    cells = [Cell("0", -1.0), Cell("50", 0.0), Cell("100", 7.0), Cell("–")]
    reader = read(Matrix("m", "model", list("abcd"), [("r", cells)], numbered=True))
    assert [found["class"] for found in reader.all("td")] == ["l5", "h0", "h5", "none"]
    assert [found.get("title") for found in reader.all("th", scope="col")] == [None, *"abcd"]
    assert "4" in reader.text


@pytest.mark.parametrize(
    ("bars", "told"),
    [
        (Bars("b", ["s"], [("g", [2.0])], 0.0, 1.0), "off the scale"),
        (Bars("b", ["s"], [("g", [0.5, 0.5])], 0.0, 1.0), "2 values for 1"),
        (Bars("b", ["s"], [("g", [0.5])], 1.0, 1.0), "no room"),
    ],
)
def test_bars_that_contradict_themselves_raise(bars, told) -> None:
    with pytest.raises(DataError, match=told):
        read(bars)


def test_bars_are_as_long_as_their_values() -> None:
    reader = read(Bars("b", ["s", "t"], [("g", [5.5, None])], 1.0, 10.0))
    assert [found["width"] for found in reader.all("rect", class_="bar")] == ["50.0", "0.0"]


def held(**more):
    fields = {"low": 0.1, "value": 0.2, "high": 0.3, "least": None, "most": 0.5, "passed": True}
    return HeldList([Held("n", "w", **(fields | more))])


def test_what_is_out_of_bounds_is_shaded() -> None:
    (beyond,) = read(held()).all("rect", class_="beyond")
    assert (beyond["x"], beyond["width"]) == ("200.0", "194.0")
    (beyond,) = read(held(least=0.5, most=None)).all("rect", class_="beyond")
    assert (beyond["x"], beyond["width"]) == ("6.0", "194.0")
    assert len(read(held(least=0.1)).all("rect", class_="beyond")) == 2
    (mark,) = read(held(value=0.0, low=-0.5, start=-1.0)).all("circle")
    assert mark["cx"] == "200.0"


def test_what_was_not_measured_has_no_mark() -> None:
    reader = read(held(value=None, low=None, high=None, passed=False))
    assert not reader.all("circle")
    assert "not measured" in reader.text
    assert "failed" in reader.text


def browser(*entries):
    return read(VerdictBrowser(entries, "note"))


def test_filters_stand_for_what_is_there() -> None:
    entries = [entry(category="x", models=["m", "n"])] * 8
    entries += [entry(reading="failed", color="fail", category="y", models=["m"])]
    reader = browser(*entries)
    values = [found["value"] for found in reader.all("input")]
    assert values == ["all", "v-failed", "v-decided", "all", "g0", "g1", "all", "m0", "m1"]
    shown = "".join(reader.text)
    assert "no verdict 1" in shown
    assert "m 9" in shown
    classes = [found["class"].split() for found in reader.all("details")]
    assert classes[0] == ["entry", "v-decided", "g0", "m0", "m1"]
    assert classes[-1] == ["entry", "v-failed", "g1", "m0"]


def test_every_filter_has_its_rule() -> None:
    style = render_page(Page("t", "", []))
    for value in [*(f"g{i}" for i in range(MAX_FILTERS)), *(f"m{i}" for i in range(MAX_FILTERS))]:
        assert f'[value="{value}"]:checked) .entry:not(.{value})' in style
    for value in ("failed", "inconsistent", "tie", "decided"):
        assert f'[value="v-{value}"]:checked) .entry:not(.v-{value})' in style


def test_many_categories_make_no_endless_filter() -> None:
    reader = browser(*(entry(category=f"c{i}", models=["m"]) for i in range(50)))
    assert len(reader.all("input", type="radio")) == 1 + MAX_FILTERS


def test_few_entries_need_no_filter_and_none_leaves_the_note() -> None:
    assert not browser(entry(), entry()).all("input")
    assert "note" in browser().text


def test_a_long_text_is_cut_and_says_so() -> None:
    text = "word " * 10_000
    reader = browser(entry(prompt="p", sides=[("a", text)], replies=[Reply("r", text, "read")]))
    assert sum(map(len, reader.text)) < 4 * MAX_CHARACTERS
    assert f"{50_000 - MAX_CHARACTERS:,} characters are left out here." in reader.text


def test_marks_are_highlighted_in_replies_only() -> None:
    text = "First [[A]], then [[B]]; [[" + "x" * 60 + "]] and [[\n]]"
    reader = browser(entry(prompt=text, sides=[("a", text)], replies=[Reply("r", text, "read")]))
    assert len(reader.all("mark")) == 2


def test_an_unclosed_mark_at_the_fold_stays_text() -> None:
    reply = "y" * 895 + "[[A" + "z" * 700 + "]]"
    assert not browser(entry(replies=[Reply("r", reply, "read")])).all("mark")
