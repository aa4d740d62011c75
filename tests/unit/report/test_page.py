import base64
import hashlib
import re
from dataclasses import fields
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from rlaif.errors import DataError, StoreError
from rlaif.report.page import (
    Callout,
    Example,
    Examples,
    Files,
    Heading,
    Histogram,
    IntervalChart,
    KeyFigures,
    LineChart,
    Page,
    Paragraph,
    Step,
    Steps,
    Table,
    render_page,
    write_page,
)

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'`<b>`**<i>**\x00\u202e\ud800&amp;"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(k) == v for k, v in wanted.items())
        ]


def read(*blocks, **options):
    return Reader(render_page(Page("Report", "", blocks, **options)))


def every_block(text):
    return [
        Heading(text, text),
        Paragraph(text),
        KeyFigures([(text, text, text)]),
        Callout("warning", text, text),
        Table(text, [text, text], [[text, text], [text, 1.5]], text),
        LineChart(text, text, text, [(text, [0, 1], [1, 2])], text, [(1.5, text)]),
        IntervalChart(text, [(text, 0.4, 0.5, 0.6)], note=text),
        Histogram(text, text, [(text, [1.0, 2.0])], note=text),
        Examples([Example(text, text, text, text, text, text)]),
        Steps([Step(text, text)]),
        Files([(text, text)]),
    ]


def full(text):
    return render_page(Page(text, text, every_block(text), text))


def test_example_of_the_module_docstring():
    page = Page("Judging run", "64 prompts", [Heading("Results"), Paragraph("It went **well**.")])
    assert "<strong>well</strong>" in render_page(page)


def test_hostile_text_adds_no_element_and_no_attribute():
    # As long as the hostile text: the charts cut both at the same place.
    plain, hostile = Reader(full("p" * len(HOSTILE))), Reader(full(HOSTILE))
    tags = [tag for tag, _ in hostile.elements if tag not in ("code", "strong", "a")]
    assert tags == [tag for tag, _ in plain.elements if tag not in ("code", "strong", "a")]
    assert "script" not in tags
    assert "img" not in tags
    names = {name for _, found in hostile.elements for name in found}
    assert not [name for name in names if name.startswith("on")]
    assert names == {name for _, found in plain.elements for name in found}


def test_hostile_text_can_be_read_in_every_place():
    shown = "".join(Reader(full(HOSTILE)).text)
    assert shown.count("<img src=x onerror=alert(1)>") >= 40
    assert "⟨U+0000⟩⟨U+202E⟩⟨U+D800⟩&amp;" in shown
    assert not set(shown) & set("\x00\u202e\ud800")


def test_the_policy_forbids_network_and_scripts_and_knows_its_own_style():
    text = full("plain")
    (policy,) = [
        found["content"]
        for _, found in Reader(text).elements
        if found.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    known = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{known}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    # A policy in a meta element rules only what comes after it.
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_nothing_is_loaded_and_no_style_is_inline():
    reader = Reader(full("plain"))
    loading = {"src", "srcset", "data", "style", "xlink:href", "action", "background", "poster"}
    assert not [found for _, found in reader.elements if loading & set(found)]
    assert {tag for tag, found in reader.elements if "href" in found} == {"a"}
    style = re.search(r"<style>(.*?)</style>", full("plain"), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert "<" not in style


def test_style_serves_dark_screens_phones_and_paper():
    text = render_page(Page("t", "", []))
    for condition in ("prefers-color-scheme: dark", "max-width: 46rem", "media print"):
        assert condition in text
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text


def colors(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def contrast(a, b):
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2])
def test_text_stands_out_in_light_dark_and_print(scheme):
    roots = re.findall(r":root \{(.*?)\}", render_page(Page("t", "", [])), re.DOTALL)
    palette = colors(roots[scheme])
    series = [f"s{i}" for i in range(6)]
    for name in ("ink", "soft", "accent", "good", "warn", *series):
        assert contrast(palette[name], palette["paper"]) >= 4.5, name
    for panel in ("panel", "good-panel", "warn-panel"):
        for name in ("ink", "soft", "accent"):
            assert contrast(palette[name], palette[panel]) >= 4.5, (name, panel)


def test_headings_are_in_order_and_ids_unique():
    reader = Reader(full("plain"))
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = [found["id"] for _, found in reader.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found in reader.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert found.get(name) is None or found[name] in ids


def test_neighboring_charts_share_a_row():
    chart = Histogram("t", "x", [("a", [1.0])])
    assert len(read(chart, chart, Paragraph("x"), chart).all("div", class_="charts")) == 2


def test_paragraphs_part_at_blank_lines():
    assert len(read(Paragraph("one\nstill one\n\n \ntwo")).all("p")) == 2


def test_key_figures_show_label_value_and_note():
    shown = read(KeyFigures([("Win rate", "64.1%", "n = **64**")]))
    assert "".join(shown.text).split() == ["Report", "Report", "Win", "rate64.1%n", "=", "64"]


@pytest.mark.parametrize(
    ("kind", "spoken"), [("good", "Good news: "), ("warning", "Warning: "), ("neutral", "Note: ")]
)
def test_a_callout_says_its_kind_aloud(kind, spoken):
    reader = read(Callout(kind, "title", "text"))
    assert reader.all("aside", class_=f"callout {kind}")
    assert spoken in reader.text


def test_columns_of_numbers_align_right():
    rows = [["3", 1024, "98.7%", "ok", "2 of 3"], ["b", None, "−1.2", "7", "—"]]
    reader = read(Table("c", ["name", "n", "share", "word", "of"], rows))
    heads = [found.get("class") for found in reader.all("th", scope="col")]
    assert heads == [None, "number", "number", None, "number"]
    assert len(reader.all("td", class_="number")) == 6
    assert len(reader.all("th", scope="row")) == 2


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "–"),
        (-1024, "−1,024"),
        (0.0312, "0.0312"),
        (-1.4234, "−1.42"),
        ("**bold** `code`", "bold code"),
    ],
)
def test_cells_read_well(cell, shown):
    text = render_page(Page("t", "", [Table("c", ["a", "b"], [["row", cell]])]))
    body = re.search(r"<td[^>]*>(.*?)</td>", text).group(1)
    assert re.sub("<[^>]+>", "", body) == shown


def test_a_wide_table_scrolls_in_its_box_and_by_keyboard():
    (box,) = read(Table("c", ["a"], [["x"]])).all("div", class_="scroll")
    assert box["tabindex"] == "0"
    assert box["role"] == "region"


def test_rows_must_fit_their_columns():
    with pytest.raises(DataError, match="1 cells for 2 columns"):
        read(Table("c", ["a", "b"], [["x"]]))


@pytest.mark.parametrize(
    ("reference", "as_percent", "note"),
    [(0.5, True, "excludes 50%;"), (0.125, True, "excludes 12.5%;"), (3, False, "excludes 3.00;")],
)
def test_an_interval_chart_explains_its_marks(reference, as_percent, note):
    chart = IntervalChart("t", [("a", 0.1, 0.2, 0.3)], reference, as_percent, note="More.")
    shown = "".join(read(chart).text)
    assert note in shown
    assert "More." in shown
    plain = IntervalChart("t", [("a", 0.1, 0.2, 0.3)], None)
    assert "Filled mark" not in "".join(read(plain).text)


def example(text):
    return read(Examples([Example("prompt", "before", text, "after", "short", "Judge: tie.")]))


def test_a_short_response_is_shown_whole():
    reader = example("line one\n  line two")
    assert not reader.all("details")
    assert "line one\n  line two" in reader.text


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, "é" * 99_000 + " end"])
def test_a_long_response_is_folded_and_complete(text):
    reader = example(text)
    assert len(reader.all("details")) == 1
    summary = next(t for t in reader.text if t.startswith("Show the other"))
    hidden = int(summary.split()[3].replace(",", ""))
    assert 0 < len(text) - hidden <= 900
    start = next(t for t in reader.text if t.endswith("…"))
    rest = reader.text[reader.text.index(summary) + 1]
    joined = start.removesuffix("…") + rest
    assert joined.replace(" ", "") == text.replace(" ", "")


def test_an_empty_response_is_said_to_be_empty():
    assert "(empty)" in example(" \n").text


def test_a_long_prompt_does_not_become_a_long_heading():
    reader = read(Examples([Example("p" * 5000, "a", "b", "c", "d", "e")]))
    assert "p" * 300 + "…" in reader.text


def test_judged_text_keeps_its_own_direction():
    assert len(example("مرحبا").all("div", class_="said", dir="auto")) == 2


def test_steps_are_numbered_with_code_where_given():
    reader = read(Steps([Step("do", "rlaif audit --help"), Step("think")]))
    assert len(reader.all("ol")) == 1
    assert len(reader.all("li")) == 2
    assert len(reader.all("pre")) == 1


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("verdicts.jsonl", "./verdicts.jsonl"),
        ("dataset/train 1.jsonl", "./dataset/train%201.jsonl"),
        ('x" onclick="y', "./x%22%20onclick%3D%22y"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("a\ud800", "./a%3F"),
        ("/etc/passwd", None),
        ("../up", None),
        ("~/home", None),
        ("C:\\x", None),
        ("\\\\server\\share", None),
    ],
)
def test_only_files_beside_the_page_are_linked(path, link):
    links = read(Files([(path, "what")])).all("a")
    assert [found["href"] for found in links] == ([link] if link else [])


def test_the_same_page_gives_the_same_text():
    assert full("plain") == full("plain")


def test_write_page_replaces_the_file_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    page = Page("t", "", every_block(HOSTILE))
    assert write_page(page, path) == path
    assert path.read_text(encoding="utf-8") == render_page(page)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_rendered_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(DataError):
        write_page(Page("t", "", [Table("c", ["a"], [[]])]), path)
    assert path.read_text() == "old"


def test_write_page_needs_its_folder(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        write_page(Page("t", "", []), tmp_path / "missing" / "report.html")


def test_blocks_are_frozen():
    for block in every_block("x"):
        name = fields(block)[0].name
        with pytest.raises(AttributeError):
            setattr(block, name, "y")
