import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.report.charts import (
    WIDTH,
    Histogram,
    IntervalChart,
    LineChart,
    format_number,
    nice_ticks,
    render_chart,
    thin,
)

HOSTILE = "</svg><script>alert(1)</script>\"'\x00\u202e\ud800"
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def draw(chart):
    """The parsed drawing: parsing fails unless it is well-formed."""
    return ET.fromstring(render_chart(chart, "c"))


def texts(svg, kind):
    return [e.text for e in svg.iter("text") if e.get("class") == kind]


def coordinates(svg):
    """Every coordinate on the page, x and y together with the name of its attribute."""
    for element in svg.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            if element.get(name) is not None:
                yield name, float(element.get(name))
        for number in re.findall(r"-?[\d.]+(?:e-?\d+)?|nan|inf", element.get("d", "")):
            yield "d", float(number)


def lines(*series, **options):
    return LineChart("Loss", "step", "nats", series, **options)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.71, [0.2, 0.4, 0.6]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (1, 60, [20, 40, 60]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_ticks_lie_in_their_range(low, width):
    ticks = nice_ticks(low, low + width)
    assert 2 <= len(ticks) <= 7
    slack = 1e-6 * (width + abs(low))
    assert low - slack <= ticks[0] < ticks[-1] <= low + width + slack


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((0.641,), {"percent": True}, "64.1%"),
        ((0.5, 0.1), {"percent": True}, "50%"),
        ((-0.25, 0.05), {}, "−0.25"),
        ((-0.0, 0.5), {}, "0.0"),
        ((-0.001, 0.5), {}, "0.0"),
        ((20000, 5000), {}, "20,000"),
        ((3.14159,), {}, "3.14"),
        ((0.0310,), {}, "0.0310"),
        ((91.66,), {}, "91.7"),
        ((12345.6,), {}, "12,346"),
        ((0,), {}, "0"),
        ((2.5e7,), {}, "2.5e+07"),
        ((2.5e7, 5e6), {}, "2.5e+07"),
        ((1_000_020, 20), {}, "1,000,020"),
        ((5e-9, 1e-9), {}, "5e−09"),
        ((0, 1e-9), {}, "0"),
        ((0, 2e7), {}, "0"),
        ((3e-9,), {}, "3e−09"),
    ],
)
def test_numbers_read_well(arguments, options, expected):
    assert format_number(*arguments, **options) == expected


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e12))
def test_ticks_can_be_told_apart(low, width):
    ticks = nice_ticks(low, low + width)
    step = ticks[1] - ticks[0]
    labels = [format_number(tick, step) for tick in ticks]
    assert len(set(labels)) == len(labels)


def test_short_lines_keep_every_point():
    assert thin([1, 2, 3], [5, 5, 5]) == [0, 1, 2]


def test_thinning_keeps_ends_and_spikes():
    ys = [math.sin(i / 500) for i in range(10_000)]
    ys[1234], ys[8765] = 50.0, -50.0
    kept = thin(range(10_000), ys)
    assert kept == sorted(set(kept))
    assert {0, 1234, 8765, 9999} <= set(kept)
    assert len(kept) <= 602


def test_a_long_line_is_a_small_drawing():
    xs = list(range(10_000))
    assert len(render_chart(lines(("loss", xs, [i % 97 for i in xs])), "c")) < 12_000


def test_a_line_runs_from_its_first_to_its_last_point():
    svg = draw(lines(("loss", [0, 1, 2], [3.0, 1.0, 2.0])))
    path = next(e for e in svg.iter("path")).get("d")
    points = [tuple(map(float, point.split())) for point in path[1:].split("L")]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    heights = [y for _, y in points]
    assert heights[0] < heights[2] < heights[1]  # up is smaller in SVG
    assert points[1][0] == pytest.approx((points[0][0] + points[2][0]) / 2, abs=0.11)


def test_points_and_chart_carry_titles():
    svg = draw(lines(("loss", [1, 2], [0.5, 0.25])))
    titles = [e.text for e in svg.iter("title")]
    assert titles[0] == "Loss"
    assert "loss: 0.250 at 2.00" in titles
    assert next(e for e in svg.iter("desc")).text == "loss: from 0.500 to 0.250"


def test_several_lines_are_labeled_at_their_ends_without_touching():
    svg = draw(lines(*[(name, [0, 1], [0.0, 1.0]) for name in ("margin", "chosen", "rejected")]))
    assert sorted(texts(svg, "name")) == ["chosen", "margin", "rejected"]
    heights = sorted(float(e.get("y")) for e in svg.iter("text") if e.get("class") == "name")
    assert min(b - a for a, b in pairwise(heights)) >= 14


def test_one_line_needs_no_label():
    assert texts(draw(lines(("loss", [0, 1], [0, 1]))), "name") == []


def test_reference_lines_are_in_range_and_labeled():
    svg = draw(lines(("loss", [0, 1], [1.0, 2.0]), references=[(5.0, "ceiling")]))
    assert texts(svg, "reference-label") == ["ceiling"]
    assert all(0 <= value <= 400 for _, value in coordinates(svg))


@pytest.mark.parametrize(
    ("xs", "ys"), [([3], [0.7]), ([0, 1, 2], [0.0] * 3), ([1, 1], [2, 2]), ([5, 5], [-1e9, 1e9])]
)
def test_lines_without_extent_are_drawn(xs, ys):
    svg = draw(lines(("loss", xs, ys)))
    assert len(list(svg.iter("circle"))) == len(xs)
    assert all(math.isfinite(value) for _, value in coordinates(svg))


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=30))
def test_any_finite_line_is_drawn_inside_or_refused(points):
    xs, ys = zip(*points, strict=True)
    try:
        svg = draw(lines(("s", xs, ys)))
    except DataError as error:
        assert "too far apart" in str(error)  # noqa: PT017 - both outcomes are right
        return
    assert all(-1 <= value <= WIDTH + 1 for _, value in coordinates(svg))


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        (lines(), "no series"),
        (lines(("s", [], [])), "no points"),
        (lines(("s", [1, 2], [1])), "2 xs for 1 ys"),
        (lines(("s", [1], [math.nan])), "nan"),
        (lines(("s", [math.inf], [1])), "inf"),
        (lines(("s", [1], [1]), references=[(math.nan, "r")]), "nan"),
        (lines(("s", [1, 2], [-1.7e308, 1.7e308])), "too far apart"),
        (IntervalChart("t", []), "no rows"),
        (IntervalChart("t", [("a", 0.2, 0.1, 0.3)]), "outside"),
        (IntervalChart("t", [("a", 0.2, math.nan, 0.3)]), "nan"),
        (IntervalChart("t", [("a", 0.1, 0.2, 0.3)], reference=math.inf), "inf"),
        (Histogram("t", "x", []), "no series"),
        (Histogram("t", "x", [("a", [])]), "no values"),
        (Histogram("t", "x", [("a", [1.0, math.nan])]), "nan"),
        (Histogram("t", "x", [("a", [1.0])], bins=0), "0 bins"),
        (Histogram("t", "x", [("a", [1.0])], bins=[0.0]), "do not rise"),
        (Histogram("t", "x", [("a", [1.0])], bins=[0.0, 2.0, 1.0]), "do not rise"),
        (Histogram("t", "x", [("a", [1.0])], bins=[0.0, math.nan]), "nan"),
        (Histogram("t", "x", [("a", [3.0])], bins=[0.0, 2.0]), "outside the bins"),
    ],
)
def test_what_cannot_be_drawn_is_refused(chart, message):
    with pytest.raises(DataError, match=message):
        render_chart(chart, "c")


def test_intervals_show_their_figures_and_whether_they_exclude_the_reference():
    rows = [("all prompts", 0.56, 0.641, 0.714), ("reasoning", 0.41, 0.52, 0.63)]
    svg = draw(IntervalChart("Win rate", rows))
    assert texts(svg, "figures") == ["64.1% [56.0, 71.4]", "52.0% [41.0, 63.0]"]
    assert [e.get("class") for e in svg.iter("circle")] == ["dot", "dot hollow"]
    dots = [float(e.get("cx")) for e in svg.iter("circle")]
    reference = float(next(e for e in svg.iter("line") if e.get("class") == "reference").get("x1"))
    assert reference < dots[1] < dots[0]


def test_intervals_in_other_units_without_reference():
    svg = draw(IntervalChart("Words", [("all", 80, 84.2, 90)], reference=None, as_percent=False))
    assert texts(svg, "figures") == ["84.2 [80.0, 90.0]"]
    assert not [e for e in svg.iter("line") if e.get("class") == "reference"]
    assert [e.get("class") for e in svg.iter("circle")] == ["dot"]


@pytest.mark.parametrize("row", [("a", 0, 0, 0), ("a", 1, 1, 1), ("a", 0, 0.5, 1)])
def test_percentages_at_the_ends_stay_inside(row):
    svg = draw(IntervalChart("Win rate", [row], reference=None))
    assert all(0 <= value <= WIDTH for _, value in coordinates(svg))
    assert all("−" not in tick and not tick.startswith("110") for tick in texts(svg, "tick"))


def test_a_long_label_is_cut_and_kept_for_hover():
    label = "a label that goes on and on " * 5
    svg = draw(IntervalChart("Win rate", [(label, 0.4, 0.5, 0.6)]))
    shown = next(e for e in svg.iter("text") if e.get("class") == "row")
    assert shown.text.endswith("…")
    assert len(shown.text) < 60
    assert shown.find("title").text == label


def test_bars_count_their_bins():
    svg = draw(Histogram("p", "p", [("p", [0.1, 0.2, 0.25, 0.9])], bins=[0.0, 0.5, 1.0]))
    bars = list(svg.iter("rect"))
    assert [bar.find("title").text for bar in bars] == ["0 to 0.500: 3", "0.500 to 1.00: 1"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.01)


def test_several_histograms_are_shares_with_a_key():
    series = [("before", [1.0, 2.0, 3.0]), ("after", [2.0] * 50 + [3.0])]
    svg = draw(Histogram("Words", "words", series, bins=2))
    assert texts(svg, "name") == ["before (n = 3)", "after (n = 51)"]
    assert all(tick.endswith("%") for tick in texts(svg, "tick")[:3])
    assert len(list(svg.iter("path"))) == 2


def test_a_constant_histogram_is_drawn():
    svg = draw(Histogram("t", "x", [("a", [7.0] * 5)]))
    assert any(bar.find("title").text.endswith(": 5") for bar in svg.iter("rect"))


@pytest.mark.parametrize(
    "chart",
    [
        LineChart(HOSTILE, HOSTILE, HOSTILE, [(HOSTILE, [1], [1])] * 2, references=[(1, HOSTILE)]),
        IntervalChart(HOSTILE, [(HOSTILE, 0.1, 0.2, 0.3)]),
        Histogram(HOSTILE, HOSTILE, [(HOSTILE, [1.0])] * 2),
    ],
)
def test_hostile_labels_stay_text(chart):
    svg = draw(chart)
    assert {e.tag for e in svg.iter()} <= {
        "svg", "g", "title", "desc", "path", "line", "circle", "rect", "text",
    }  # fmt: skip
    assert "alert(1)" in "".join(svg.itertext())
