"""Charts as inline SVG: no script, no request, colors and text from the page's style sheet.

Every chart is drawn 400 units wide, so its 13-unit text stays readable on a phone, where it is
350 pixels wide, and two charts stand side by side on a desk. Series differ by dash as well as by
color. Numbers that cannot be drawn raise; nothing is left out silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.report.text import escape

WIDTH = 400.0
MAX_POINTS = 600
"""A line is thinned to about this many points."""
_FONT = 13.0
_STYLES = 6
"""How many series colors the style sheet has; more series take the colors again."""


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over a common axis; each is labeled at its end."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]]
    """(name, xs, ys), drawn in the order given; thinned to about 600 points each."""
    note: str = ""
    references: Sequence[tuple[float, str]] = ()
    """(y, label) of dashed horizontal lines."""


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """One row for each estimate; its mark is filled where the interval excludes the reference."""

    title: str
    rows: Sequence[tuple[str, float, float, float]]
    """(label, low, value, high)."""
    reference: float | None = 0.5
    as_percent: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of counts for one series; outlines of shares for several, whose sizes may differ."""

    title: str
    x_label: str
    series: Sequence[tuple[str, Sequence[float]]]
    """(name, values)."""
    bins: int | Sequence[float] = 20
    """How many bins over the range of all values, or their rising edges."""
    note: str = ""


Chart = LineChart | IntervalChart | Histogram


def render_chart(chart: Chart, ident: str) -> str:
    """The `<svg>` element of `chart`.

    Args:
        chart: What to draw.
        ident: Prefix of the element ids, unlike that of any other chart on the page.

    Raises:
        DataError: there is nothing to draw, a number is NaN or infinite, or series or intervals
            contradict themselves.
    """
    if isinstance(chart, LineChart):
        return _line_chart(chart, ident)
    if isinstance(chart, IntervalChart):
        return _interval_chart(chart, ident)
    return _histogram(chart, ident)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) from `low` to `high`."""
    step = _nice_step((high - low) / count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def thin(xs: Sequence[float], ys: Sequence[float], limit: int = MAX_POINTS) -> list[int]:
    """Indices of the points to draw, in order: the first, the last and each stretch's extremes.

    Args:
        xs: Length n; only its length is looked at.
        ys: Length n.
        limit: Most points to keep, give or take two.
    """
    n = len(xs)
    if n <= limit:
        return list(range(n))
    kept = {0, n - 1}
    for stretch in np.array_split(np.arange(n), limit // 2):
        values = np.asarray(ys, dtype=np.float64)[stretch]
        kept.update((int(stretch[values.argmin()]), int(stretch[values.argmax()])))
    return sorted(kept)


def format_number(value: float, step: float | None = None, *, percent: bool = False) -> str:
    """`value` for a reader: as many digits as tell steps of `step` apart, or three without one."""
    scale, unit = (100.0, "%") if percent else (1.0, "")
    shown = value * scale
    if step is not None:
        text = _to_step(shown, step * scale)
    elif percent:
        text = f"{shown:,.1f}"
    else:
        text = _three_digits(shown)
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−") + unit


def _to_step(value: float, step: float) -> str:
    power = math.floor(math.log10(step) + 1e-9)
    if value == 0 and not -4 <= power < 6:
        return "0"
    if power >= -4 and abs(value) < 1e7:
        return f"{value:,.{max(0, -power)}f}"
    return f"{value:.{max(0, math.floor(math.log10(abs(value)) + 1e-9) - power)}e}"


def _three_digits(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class _Axis:
    """A linear map from numbers to units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> tuple[list[float], float]:
        values = nice_ticks(self.low, self.high, count)
        return values, _nice_step((self.high - self.low) / count)


@dataclass(frozen=True, slots=True)
class _Plane:
    x: _Axis
    y: _Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x.at(x), self.y.at(y)


def _span(values: Iterable[float], *, pad: float) -> tuple[float, float]:
    """A range around `values` that has width, `pad` times the width wider on each side."""
    finite = [float(value) for value in values]
    low, high = min(finite), max(finite)
    largest = max(abs(low), abs(high))
    if high - low <= max(largest * 1e-9, 1e-200):
        margin = largest * 0.1 if largest > 1e-200 else 0.5
    else:
        margin = (high - low) * pad
    low, high = low - margin, high + margin
    if not math.isfinite(high - low):
        raise DataError(f"values up to {largest:.3g} are too far apart to draw")
    return low, high


def _finite(what: str, values: Iterable[float]) -> None:
    for value in values:
        if not math.isfinite(value):
            raise DataError(f"{what}: {value} cannot be drawn")


def _line_chart(chart: LineChart, ident: str) -> str:
    _check_lines(chart)
    height, top = 260.0, 32.0
    names = [name for name, _, _ in chart.series] if len(chart.series) > 1 else []
    right = WIDTH - min(120.0, max((_text_width(name) for name in names), default=-2.0) + 10)
    ys = [y for _, _, ys in chart.series for y in ys] + [y for y, _ in chart.references]
    y_axis = _Axis(*_span(ys, pad=0.06), height - 42, top)
    ticks, step = y_axis.ticks(4)
    left = 10 + max(_text_width(format_number(tick, step)) for tick in ticks)
    x_axis = _Axis(*_span([x for _, xs, _ in chart.series for x in xs], pad=0.0), left, right)
    parts = [_y_grid(y_axis, left, right), _x_ticks(x_axis, height - 42)]
    parts.append(_axis_labels(chart.x_label, chart.y_label, right, height))
    for y, label in chart.references:
        parts.append(_reference_line(y_axis.at(y), left, right, label))
    ends: list[tuple[float, int, str]] = []
    for i, (name, xs, ys_) in enumerate(chart.series):
        parts.append(_line(i, name, xs, ys_, _Plane(x_axis, y_axis)))
        ends.append((y_axis.at(float(ys_[-1])), i, name))
    if names:
        parts += _end_labels(ends, right + 8, top, height - 42)
    summary = "; ".join(_line_summary(name, ys_) for name, _, ys_ in chart.series)
    return _svg(height, chart.title, summary, parts, ident)


def _check_lines(chart: LineChart) -> None:
    if not chart.series:
        raise DataError(f"chart {chart.title!r} has no series")
    _finite(chart.title, [y for y, _ in chart.references])
    for name, xs, ys in chart.series:
        if len(xs) != len(ys):
            raise DataError(f"series {name!r}: {len(xs)} xs for {len(ys)} ys")
        if len(xs) == 0:
            raise DataError(f"series {name!r} has no points")
        _finite(f"series {name!r}", [*xs, *ys])


def _line_summary(name: str, ys: Sequence[float]) -> str:
    first, last = format_number(float(ys[0])), format_number(float(ys[-1]))
    return f"{name}: {last}" if len(ys) == 1 else f"{name}: from {first} to {last}"


def _line(i: int, name: str, xs: Sequence[float], ys: Sequence[float], plane: _Plane) -> str:
    points = [(float(xs[j]), float(ys[j])) for j in thin(xs, ys)]
    places = [plane.at(x, y) for x, y in points]
    path = "M" + "L".join(f"{_n(px)} {_n(py)}" for px, py in places)
    title = f"<title>{escape(_line_summary(name, ys))}</title>"
    parts = [f'<g class="{_style(i)}"><path class="line" d="{path}">{title}</path>']
    if len(points) <= 40:  # more marks than that would hide the line
        for (x, y), (px, py) in zip(points, places, strict=True):
            what = escape(f"{name}: {format_number(y)} at {format_number(x)}")
            parts.append(_dot(px, py, 2.5, what))
    return "".join(parts) + "</g>"


def _end_labels(
    ends: list[tuple[float, int, str]], x: float, top: float, bottom: float
) -> list[str]:
    """The names of the series right of their last points, moved apart where they would touch."""
    gap = _FONT + 2
    ordered = sorted(ends)
    heights: list[float] = []
    for y, _, _ in ordered:
        heights.append(max(y, heights[-1] + gap) if heights else max(y, top))
    limit = bottom
    for k in reversed(range(len(heights))):
        heights[k] = min(heights[k], limit)
        limit = heights[k] - gap
    return [
        f'<g class="{_style(i)}">{_text(x, y + 4, name, "name", width=WIDTH - x)}</g>'
        for y, (_, i, name) in zip(heights, ordered, strict=True)
    ]


def _interval_chart(chart: IntervalChart, ident: str) -> str:
    axis = _interval_axis(chart)
    top, row_height = 2.0, 46.0
    bottom = top + row_height * len(chart.rows)
    parts = [_x_ticks(axis, bottom, percent=chart.as_percent)]
    parts += [
        _interval_row(row, top + k * row_height, axis, chart) for k, row in enumerate(chart.rows)
    ]
    summary = "; ".join(f"{row[0]}: {_interval_text(row, chart)}" for row in chart.rows)
    return _svg(bottom + 26, chart.title, summary, parts, ident)


def _interval_axis(chart: IntervalChart) -> _Axis:
    """The axis of checked rows; percentages that lie within 0 and 100 get no room beyond."""
    if not chart.rows:
        raise DataError(f"chart {chart.title!r} has no rows")
    values = [] if chart.reference is None else [chart.reference]
    _finite(chart.title, values)
    for label, low, value, high in chart.rows:
        _finite(f"row {label!r}", (low, value, high))
        if not low <= value <= high:
            raise DataError(f"row {label!r}: {value} lies outside [{low}, {high}]")
        values += (low, high)
    start, end = _span(values, pad=0.04)
    if chart.as_percent and min(values) >= 0:
        start = max(start, 0.0)
    if chart.as_percent and max(values) <= 1:
        end = min(end, 1.0)
    return _Axis(start, end, 14, WIDTH - 14)


def _interval_row(
    row: tuple[str, float, float, float], top: float, axis: _Axis, chart: IntervalChart
) -> str:
    label, low, value, high = row
    figures = _interval_text(row, chart)
    room = WIDTH - _text_width(figures) - 16
    parts = [
        _text(0, top + 16, label, "row", width=room),
        _text(WIDTH, top + 16, figures, "figures", anchor="end"),
    ]
    # Rules stop short of the text above them.
    y, rule_top, rule_bottom = top + 32, top + 23, top + 41
    parts += [_rule("grid", axis.at(tick), rule_top, rule_bottom) for tick in axis.ticks(5)[0]]
    inside = False
    if chart.reference is not None:
        parts.append(_rule("reference", axis.at(chart.reference), rule_top, rule_bottom))
        inside = low <= chart.reference <= high
    x1, x2 = _n(axis.at(low)), _n(axis.at(high))
    parts += [
        f'<g class="s0"><line class="interval" x1="{x1}" x2="{x2}" y1="{_n(y)}" y2="{_n(y)}"/>',
        _dot(axis.at(value), y, 5, escape(f"{label}: {figures}"), hollow=inside),
        "</g>",
    ]
    return "".join(parts)


def _rule(kind: str, x: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{_n(x)}" x2="{_n(x)}" y1="{_n(y1)}" y2="{_n(y2)}"/>'


def _interval_text(row: tuple[str, float, float, float], chart: IntervalChart) -> str:
    _, low, value, high = row
    low_, value_, high_ = (format_number(v, percent=chart.as_percent) for v in (low, value, high))
    return f"{value_} [{low_.removesuffix('%')}, {high_.removesuffix('%')}]"


def _histogram(chart: Histogram, ident: str) -> str:
    edges, heights, counts = _binned(chart)
    several = len(chart.series) > 1
    top = 32.0 + (20 * len(chart.series) if several else 0)
    height = top + 220
    y_axis = _Axis(0.0, 1.06 * max(float(h.max()) for h in heights), height - 42, top)
    ticks, step = y_axis.ticks(4)
    left = 10 + max(_text_width(format_number(tick, step, percent=several)) for tick in ticks)
    x_axis = _Axis(float(edges[0]), float(edges[-1]), left, WIDTH - 8)
    y_label = "share of its series" if several else "count"
    parts = [
        _y_grid(y_axis, left, WIDTH - 8, percent=several),
        _x_ticks(x_axis, height - 42),
        _axis_labels(chart.x_label, y_label, WIDTH - 8, height, y_top=top - 18),
    ]
    for i, (name, _) in enumerate(chart.series):
        if several:
            parts.append(_outline(i, name, edges, heights[i], _Plane(x_axis, y_axis)))
            parts.append(_key(i, f"{name} (n = {counts[i].sum():,})", 14 + 20 * i))
        else:
            parts.append(_bars(edges, counts[i], _Plane(x_axis, y_axis)))
    summary = "; ".join(
        f"{name}: {len(values):,} values from {format_number(float(min(values)))} "
        f"to {format_number(float(max(values)))}"
        for name, values in chart.series
    )
    return _svg(height, chart.title, summary, parts, ident)


Floats = NDArray[np.float64]


def _binned(chart: Histogram) -> tuple[Floats, list[Floats], list[NDArray[np.int64]]]:
    """Edges (bins + 1), what each series shows in each bin, and the counts behind it."""
    if not chart.series:
        raise DataError(f"chart {chart.title!r} has no series")
    for name, values in chart.series:
        if len(values) == 0:
            raise DataError(f"series {name!r} has no values")
        _finite(f"series {name!r}", values)
    edges = _edges(chart)
    counts = [np.histogram(np.asarray(values, float), edges)[0] for _, values in chart.series]
    for (name, values), count in zip(chart.series, counts, strict=True):
        if count.sum() != len(values):
            raise DataError(f"series {name!r} has values outside the bins")
    several = len(chart.series) > 1
    heights = [count / count.sum() if several else count.astype(float) for count in counts]
    return edges, heights, counts


def _edges(chart: Histogram) -> Floats:
    if isinstance(chart.bins, int):
        if chart.bins < 1:
            raise DataError(f"chart {chart.title!r} has {chart.bins} bins")
        values = [v for _, values in chart.series for v in values]
        return np.linspace(*_span(values, pad=0.0), chart.bins + 1)
    edges = np.asarray(chart.bins, dtype=np.float64)
    _finite(f"bins of {chart.title!r}", edges)
    if edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise DataError(f"bins of {chart.title!r} do not rise")
    return edges


def _bars(edges: Floats, counts: NDArray[np.int64], plane: _Plane) -> str:
    bars = []
    for k, count in enumerate(counts):
        x1, y = plane.at(edges[k], float(count))
        x2, floor = plane.at(edges[k + 1], 0.0)
        what = f"{format_number(edges[k])} to {format_number(edges[k + 1])}: {count:,}"
        bars.append(
            f'<rect class="bar" x="{_n(x1 + 0.5)}" y="{_n(y)}" width="{_n(max(x2 - x1 - 1, 0.5))}" '
            f'height="{_n(floor - y)}"><title>{what}</title></rect>'
        )
    return f'<g class="s0">{"".join(bars)}</g>'


def _outline(i: int, name: str, edges: Floats, shares: Floats, plane: _Plane) -> str:
    x, floor = plane.at(edges[0], 0.0)
    path = f"M{_n(x)} {_n(floor)}"
    for right, share in zip(edges[1:], shares, strict=True):
        x, y = plane.at(right, share)
        path += f"V{_n(y)}H{_n(x)}"
    title = f"<title>{escape(name)}</title>"
    return f'<g class="{_style(i)}"><path class="line" d="{path}V{_n(floor)}">{title}</path></g>'


def _key(i: int, name: str, y: float) -> str:
    line = f'<line class="line" x1="0" x2="22" y1="{_n(y - 4)}" y2="{_n(y - 4)}"/>'
    return f'<g class="{_style(i)}">{line}{_text(28, y, name, "name", width=WIDTH - 28)}</g>'


def _y_grid(axis: _Axis, left: float, right: float, *, percent: bool = False) -> str:
    ticks, step = axis.ticks(4)
    parts = []
    for tick in ticks:
        y = _n(axis.at(tick))
        parts.append(f'<line class="grid" x1="{_n(left)}" x2="{_n(right)}" y1="{y}" y2="{y}"/>')
        label = format_number(tick, step, percent=percent)
        parts.append(_text(left - 6, axis.at(tick) + 4, label, "tick", anchor="end"))
    return "".join(parts)


def _x_ticks(axis: _Axis, y: float, *, percent: bool = False) -> str:
    ticks, step = axis.ticks(5)
    first, last = _n(axis.start), _n(axis.end)
    parts = [f'<line class="axis" x1="{first}" x2="{last}" y1="{_n(y)}" y2="{_n(y)}"/>']
    for tick in ticks:
        label = format_number(tick, step, percent=percent)
        # A centered label at the very edge would be cut off.
        half = _text_width(label) / 2
        x = min(max(axis.at(tick), half), WIDTH - half)
        parts.append(_text(x, y + 17, label, "tick", anchor="middle"))
    return "".join(parts)


def _axis_labels(
    x_label: str, y_label: str, right: float, height: float, *, y_top: float = 14
) -> str:
    return _text(0, y_top, y_label, "axis-label", width=WIDTH) + _text(
        right, height - 6, x_label, "axis-label", anchor="end", width=right
    )


def _reference_line(y: float, left: float, right: float, label: str) -> str:
    line = f'<line class="reference" x1="{_n(left)}" x2="{_n(right)}" y1="{_n(y)}" y2="{_n(y)}"/>'
    return line + _text(left + 4, y - 5, label, "reference-label", width=right - left)


def _dot(x: float, y: float, radius: float, title: str, *, hollow: bool = False) -> str:
    kind = "dot hollow" if hollow else "dot"
    return (
        f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}">'
        f"<title>{title}</title></circle>"
    )


def _text(
    x: float, y: float, text: str, kind: str, *, anchor: str = "start", width: float = WIDTH
) -> str:
    """A line of text, cut to about `width` units with the whole of it on hover."""
    shown, title = text, ""
    if _text_width(text) > width:
        room = max(1, int(width / _text_width(text) * len(text)) - 1)
        shown, title = text[:room].rstrip() + "…", f"<title>{escape(text)}</title>"
    where = f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(shown)}{title}</text>'


def _text_width(text: str) -> float:
    """About how wide `text` is in units; wide scripts count double."""
    return sum(_FONT if ord(char) > 0x2E7F else 0.57 * _FONT for char in text)


def _style(i: int) -> str:
    return f"s{i % _STYLES}"


def _n(value: float) -> str:
    """A coordinate to a tenth of a unit: finer than any screen, and a tenth of the bytes."""
    return f"{value:.1f}".removesuffix(".0")


def _svg(height: float, title: str, summary: str, parts: Sequence[str], ident: str) -> str:
    ids = f'aria-labelledby="{ident}-title" aria-describedby="{ident}-desc"'
    return (
        f'<svg viewBox="0 0 {_n(WIDTH)} {_n(height)}" role="img" {ids}>'
        f'<title id="{ident}-title">{escape(title)}</title>'
        f'<desc id="{ident}-desc">{escape(summary)}</desc>{"".join(parts)}</svg>'
    )
