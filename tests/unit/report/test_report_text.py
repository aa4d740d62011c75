import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.report.text import escape, inline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "</script><img src=x onerror='a'>",
            "&lt;/script&gt;&lt;img src=x onerror=&#x27;a&#x27;&gt;",
        ),
        ('a "b" & c', "a &quot;b&quot; &amp; c"),
        ("\x00\x1b[31m\x7f\x85", "⟨U+0000⟩⟨U+001B⟩[31m⟨U+007F⟩⟨U+0085⟩"),
        ("\u202eexe.txt\u2069", "⟨U+202E⟩exe.txt⟨U+2069⟩"),
        ("\ud800x\udfff", "⟨U+D800⟩x⟨U+DFFF⟩"),
        ("a\r\nb\rc\n\td", "a\nb\nc\n\td"),
        ("naïve 猫 🏳️‍🌈 مرحبا\u200f", "naïve 猫 🏳️‍🌈 مرحبا\u200f"),
    ],
)
def test_escape(text, expected):
    assert escape(text) == expected


@given(st.text(st.characters(codec=None)))
def test_no_text_can_open_an_element_or_end_an_attribute(text):
    for rendered in (escape(text), inline(text)):
        bare = rendered
        for element in ("<code>", "</code>", "<strong>", "</strong>"):
            bare = bare.replace(element, "")
        assert not set(bare) & set("<>\"'")
        assert rendered.encode().decode() == rendered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run `rlaif audit` **now**", "run <code>rlaif audit</code> <strong>now</strong>"),
        ("`<b>` **<i>**", "<code>&lt;b&gt;</code> <strong>&lt;i&gt;</strong>"),
        ("2 ** 3 and a ` alone", "2 ** 3 and a ` alone"),
        ("`**x**`", "<code>**x**</code>"),
        ("[link](javascript:x) <b>", "[link](javascript:x) &lt;b&gt;"),
    ],
)
def test_inline_knows_code_and_bold_only(text, expected):
    assert inline(text) == expected
