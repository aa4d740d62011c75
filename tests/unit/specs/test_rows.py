import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import SpecError
from rlaif.specs.rows import LineTable, file_rows


def test_other_tools_write_nan_into_json(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": NaN, "b": [Infinity, -Infinity, 1]}\n')
    assert list(file_rows(path, lenient=True)) == [(1, {"a": None, "b": [None, None, 1]})]
    with pytest.raises(SpecError, match="NaN is not a JSON value"):
        list(file_rows(path))
    listed = tmp_path / "x.json"
    listed.write_text("[\n{},\n" + json.dumps({"a": float("nan")}) + "]")
    assert list(file_rows(listed, lenient=True)) == [(2, {}), (3, {"a": None})]


def test_a_number_too_large_is_no_nan(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1e999}\n')
    with pytest.raises(SpecError, match="too large"):
        list(file_rows(path, lenient=True))


def test_cells_stay_the_text_they_are(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,turns,response\n,"[1]",\n')
    assert list(file_rows(path, lenient=True)) == [(2, {"a": "", "turns": "[1]", "response": ""})]
    assert list(file_rows(path)) == [(2, {"turns": [1], "response": ""})]


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(1, 10**6)), max_size=200))
def test_a_line_table_is_a_dict(pairs):
    first, last = LineTable(), LineTable()
    claimed: dict[str, int] = {}
    put: dict[str, int] = {}
    for name, line in pairs:
        assert first.claim(name, line) == claimed.get(name)
        claimed.setdefault(name, line)
        last.put(name, line)
        put[name] = line
    assert len(first) == len(last) == len(put)
    assert {name: first.get(name) for name in put} == claimed
    assert {name: last.get(name) for name in put} == put
    assert last.get("not there") is None


def test_a_line_table_grows():
    table = LineTable()
    for line in range(1, 5001):
        table.put(str(line), line)
    assert len(table) == 5000
    assert all(table.get(str(line)) == line for line in range(1, 5001))
