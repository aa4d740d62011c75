from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import SpecError
from rlaif.specs import yamlfile
from rlaif.specs.rubric import parse_rubric
from rlaif.specs.yamlfile import parse_yaml, read_yaml

# Nine levels of tenfold aliases: a billion values in three hundred characters.
BOMB = "a: &a [" + "x, " * 9 + "x]\n"
for last, name in zip("abcdefgh", "bcdefghi", strict=True):
    BOMB += f"{name}: &{name} [" + f"*{last}, " * 9 + f"*{last}]\n"


def test_data_and_lines():
    document = parse_yaml("# head\na: 1\nb:\n  - c: x\n    d: y\n  - z\n")
    assert document.data == {"a": 1, "b": [{"c": "x", "d": "y"}, "z"]}
    assert document.lines == {"a": 2, "b": 3, "b.0": 4, "b.0.c": 4, "b.0.d": 5, "b.1": 6}


def test_an_alias_may_share_a_value():
    document = parse_yaml("a: &five {min: 1}\nb: *five\n")
    assert document.data["b"] == {"min": 1}
    assert document.lines["b"] == 2


def test_an_error_points_at_the_nearest_known_line():
    document = parse_yaml("a:\n  b: 1\n", path="x.yaml")
    assert str(document.error("is odd", "a", "b")) == "x.yaml:2: field 'a.b': is odd"
    assert document.error("is missing", "a", "c").line == 1
    assert document.error("is missing", "z").line is None


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "is empty"),
        (b"# only a comment\n", None, "is empty"),
        (b"- a\n", None, "should hold a mapping (name: value), found a list"),
        (b"just text", None, "found the text 'just text'"),
        (b"a: 1\nb: 2\na: 3\n", 3, "is given twice"),
        (b"a:\n  b: 1\n  b: 1\n", 3, "is given twice"),
        (b"a: 1\nb: [1, 2\n", 3, "is not YAML: while parsing a flow sequence"),
        (b"a: 1\n---\nb: 1\n", 2, "is not YAML: expected a single document"),
        (b"a: *b\n", 1, "found undefined alias"),
        (b"a: 1\nb: \xff\n", 2, "is not UTF-8 at byte 9"),
        (b"\xef\xbb\xbfa: \xff\n", 1, "is not UTF-8 at byte 7"),
        (b"a: 1\nb: \x00\n", 2, "holds U+0000, which YAML forbids"),
        (b"a: 1\nb: !!python/object:os.system x\n", 2, "has an unsupported tag"),
        (b"a: !!set {x}\n", 1, "has an unsupported tag"),
        (b"a: 2024-13-45\n", 1, "is not a valid timestamp"),
        (b"a: " + b"9" * 5000, 1, "is not a valid int"),
        (b"[1]: a\n", 1, "a key should be text or a whole number"),
        (b"on: a\n", 1, "a key should be text or a whole number"),
        (b"1.5: a\n", 1, "a key should be text or a whole number"),
        (b"a: &a [*a]\n", 1, "is nested deeper than 50 levels"),
        (b"a: " + b"[" * 60 + b"]" * 60, 1, "is nested deeper than 50 levels"),
        (b"a: " + b"[" * 5000, None, "is nested deeper than 50 levels"),
        (BOMB.encode(), 1, "expands to more than 100,000 values"),
        (b"#" * (yamlfile.MAX_BYTES + 1), None, "is larger than 1,048,576 bytes"),
    ],
)
def test_hostile_files_are_refused(content, line, message):
    with pytest.raises(SpecError) as error:
        parse_yaml(content, path="x.yaml")
    assert message in error.value.message
    assert error.value.line == line
    assert error.value.path == "x.yaml"


def test_a_byte_order_mark_and_crlf_are_fine():
    assert parse_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n").lines == {"a": 1, "b": 2}


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(SpecError, match="there is no such file") as error:
        read_yaml(tmp_path / "no.yaml")
    assert error.value.path == str(tmp_path / "no.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(SpecError, match="cannot be read"):
        read_yaml("a\0b.yaml")


def test_a_file_larger_than_the_limit_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(yamlfile, "MAX_BYTES", 10)
    (tmp_path / "x.yaml").write_bytes(b"a: 1\n" * 10)
    with pytest.raises(SpecError, match="is larger than 10 bytes"):
        read_yaml(tmp_path / "x.yaml")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 5), inner, max_size=3)
    ),
    max_leaves=10,
)
KEYS = ("name", "version", "description", "source", "criteria", "reference", "reasoning", "prompts")


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5) | st.integers(), values))
def test_no_mapping_crashes_the_loader(data):
    import yaml

    with suppress(SpecError):
        assert parse_rubric(yaml.safe_dump(data, allow_unicode=True)).criteria


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader(content):
    with suppress(SpecError):
        assert isinstance(parse_yaml(content).data, dict)
