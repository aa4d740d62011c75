import gzip
import io
import json
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, SpecError
from rlaif.specs import rows
from rlaif.specs.items import prompt_messages, read_data, read_prompts
from rlaif.types import Message

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


@pytest.fixture
def write(tmp_path):
    def write(content, name="x.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def line(**fields):
    return json.dumps(fields) + "\n"


def texts(found):
    return [item.prompt[-1].content for item in found]


def fault(source, kind=None, **options):
    """The error that reading `source` ends in, as text without its folder."""
    with pytest.raises(SpecError) as error:
        list(read_data(source, kind, **options) if kind else read_prompts(source, **options))
    return str(error.value).rpartition(os.sep)[2]


# JSONL


def test_jsonl_with_mark_crlf_blank_lines_and_no_last_newline(write):
    content = '\ufeff{"prompt": "a"}\r\n\r\n  \n{"prompt": "b"}\n{"prompt": "c"}'
    assert texts(read_prompts(write(content))) == ["a", "b", "c"]


def test_a_full_row(write):
    row = line(id="q", prompt=[USER, ASSISTANT, USER], reference="r", meta={"a": 1}, category="x")
    [item] = read_prompts(write(row))
    assert item.id == "q"
    assert item.prompt == (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Hi"),
    )
    assert (item.reference, dict(item.meta)) == ("r", {"category": "x", "a": 1})


def test_null_means_absent(write):
    [item] = read_prompts(write(line(id=None, prompt="a", reference=None, x=None)))
    [plain] = read_prompts(write(line(prompt="a")))
    assert item == plain


def test_mt_bench_rows(write):
    row = line(question_id=81, category="math", turns=["one", "two"], reference=["1", "2"])
    [item] = read_prompts(write(row))
    assert (item.id, texts([item]), item.reference) == ("81", ["one"], "1")
    assert item.meta == {
        "question_id": 81,
        "category": "math",
        "turns": ["one", "two"],
        "references": ["1", "2"],
    }
    [plain] = read_prompts(write(line(question_id=81, turns=["one"], reference="r")))
    assert plain.reference == "r"
    [empty] = read_prompts(write(line(question_id=81, turns=["one"], reference=[])))
    assert empty.reference is None


def test_half_characters_and_nul_are_kept(write):
    [item] = read_prompts(write(r'{"prompt": "a\ud800\u0000", "x": "\udfff"}'))
    assert item.prompt[0].content == "a\ud800\0"
    assert item.meta == {"x": "\udfff"}
    assert len(item.id) == 16


def test_a_million_characters(write):
    [(_, (candidate,))] = read_data(write(line(prompt="a", response="é" * 1_000_000)), "score")
    assert len(candidate.text) == 1_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.jsonl: holds no rows"),
        ("\n \n", "x.jsonl: holds no rows"),
        ('{"prompt": "a"}\n[1]', "x.jsonl:2: a row should be a mapping, found a list"),
        ('\n{"prompt": "a"', "x.jsonl:2: is not JSON at column 15: Expecting ',' delimiter"),
        ('{"prompt": "a"} x', "x.jsonl:1: is not JSON at column 17: Extra data"),
        ('{"prompt": "a", "x": NaN}', "x.jsonl:1: is not JSON: NaN is not a JSON value"),
        ('{"prompt": "a", "x": -Infinity}', "x.jsonl:1: is not JSON: -Infinity is not a"),
        ('{"prompt": "a", "x": 1e999}', "x.jsonl:1: is not JSON: the number 1e999 is too large"),
        ('{"prompt": "a", "x": ' + "9" * 5000 + "}", "x.jsonl:1: is not JSON: Exceeds the limit"),
        ("[" * 100_000, "x.jsonl:1: is not JSON that can be read: it is nested too deeply"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}', "x.jsonl:2: is not UTF-8 at byte 13 of the line"),
        (b'\xef\xbb\xbf{"prompt": "\xff"}', "x.jsonl:1: is not UTF-8 at byte 16 of the line"),
        ('{"prompt": "a"}'.encode("utf-16"), "at byte 1 of the line; save the file as UTF-8"),
        ('{"promt": "a", "id": 1}', "x.jsonl:1: field 'prompt': is missing; the row has 'promt', "),
        ("{}", "x.jsonl:1: field 'prompt': is missing; the row has nothing"),
        ('{"prompt": ""}', "x.jsonl:1: field 'prompt': is empty"),
        ('{"prompt": " \\n"}', "x.jsonl:1: field 'prompt': is empty"),
        ('{"prompt": 3}', "x.jsonl:1: field 'prompt': should be text or a list of messages, found"),
        (
            '{"prompt": "a", "reference": 4}',
            "field 'reference': should be text, found the number 4",
        ),
        ('{"prompt": "a", "id": true}', "field 'id': should be text or a whole number, found true"),
        ('{"prompt": "a", "id": 1.5}', "field 'id': should be text or a whole number, found the n"),
        ('{"prompt": "a", "id": " "}', "field 'id': is empty"),
        ('{"prompt": "a", "meta": 1}', "field 'meta': should be a mapping, found the number 1"),
        ('{"prompt": "a", "x": 1, "meta": {"x": 2}}', "field 'meta.x': is both a column and in"),
        ('{"turns": "a"}', "field 'turns': should be a list of texts, found the text 'a'"),
        ('{"turns": []}', "field 'turns': should be a list of texts, found a list"),
        ('{"turns": [1]}', "field 'turns': should be a list of texts"),
        ('{"turns": [" "]}', "field 'prompt': is empty"),
        ('{"turns": ["a"], "reference": [1]}', "field 'reference': should be text, or a list of"),
    ],
)
def test_faults_of_prompts(write, content, message):
    assert message in fault(write(content))


def test_what_goes_to_meta_is_bounded_in_depth(write):
    deep = '{"prompt": "a", "x": ' + "[" * 60 + "]" * 60 + "}"
    assert fault(write(deep)) == "x.jsonl:1: field 'meta.x': is nested deeper than 50 levels"
    assert list(read_prompts(write('{"prompt": "a", "x": ' + "[" * 50 + "]" * 50 + "}")))


def test_a_row_over_the_limit_is_not_read_whole(write, monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 20)
    content = line(prompt="a") + line(prompt="a" * 30)
    assert fault(write(content)) == "x.jsonl:2: is longer than 20 bytes"


def test_rows_are_streamed(write):
    rows = read_prompts(write(line(prompt="a") + "broken"))
    assert texts([next(rows)]) == ["a"]
    with pytest.raises(SpecError):
        next(rows)


def test_limit(write):
    path = write(line(prompt="a") + line(prompt="b") + "broken")
    assert texts(read_prompts(path, limit=2)) == ["a", "b"]
    assert len(list(read_data(write(line(prompt="a", response="b") * 3), "score", limit=1))) == 1
    with pytest.raises(ConfigError, match="should be 1 or more, found 0"):
        next(read_prompts(path, limit=0))


# Messages


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "field 'prompt': holds no messages"),
        (["x"], "field 'prompt.0': a message should be {role, content}, found the text 'x'"),
        ([USER, ASSISTANT], "field 'prompt': should end in a user turn, the last is by assistant"),
        ([{"role": "bot", "content": "x"}], "'prompt.0.role': should be system or user or assis"),
        ([{"role": "user"}], "field 'prompt.0.content': should be text, found nothing"),
        ([{"role": "user", "content": ["x"]}], "field 'prompt.0.content': should be text, found a"),
        ([{**USER, "name": "x"}], "field 'prompt.0.name': a message has only role and content"),
        ([{"role": "user", "content": ""}], "field 'prompt': is empty"),
        (None, "field 'prompt': should be text or a list of messages, found nothing"),
    ],
)
def test_prompts_that_are_not_messages(value, message):
    with pytest.raises(SpecError) as error:
        prompt_messages(value)
    assert message in str(error.value)


def test_prompt_messages():
    assert prompt_messages("Hi") == (Message("user", "Hi"),)
    system = {"role": "system", "content": "", "name": None}
    assert prompt_messages([system, USER]) == (Message("system", ""), Message("user", "Hi"))


# Ids


def test_rows_without_an_id_get_one_from_their_content(write):
    same = line(prompt="a", x=1)
    ids = [item.id for item in read_prompts(write(same + line(prompt="b") + same + same))]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(set(ids)) == 4
    [again] = read_prompts(write('{"x": 1, "prompt": [{"content": "a", "role": "user"}]}'))
    assert again.id == ids[0]
    [other] = read_prompts(write(line(prompt="a", x=2)))
    assert other.id != ids[0]


def test_candidates_are_part_of_the_content(write):
    content = line(prompt="a", response="b") + line(prompt="a", response="c")
    assert len({item.id for item, _ in read_data(write(content), "score")}) == 2


def test_a_derived_id_avoids_a_given_one(write):
    [plain] = read_prompts(write(line(prompt="a")))
    ids = [i.id for i in read_prompts(write(line(prompt="x", id=plain.id) + line(prompt="a")))]
    assert ids == [plain.id, f"{plain.id}-2"]


def test_duplicate_ids_name_both_lines(write):
    content = line(id="a", prompt="x") + line(id=7, prompt="x") + line(id="7", prompt="x")
    assert fault(write(content)) == "x.jsonl:3: field 'id': '7' is also the id of line 2"
    content = line(question_id=1, turns=["x"]) * 2
    assert "x.jsonl:2: field 'question_id': '1' is also the id of line 1" in fault(write(content))


def test_many_ids_stay_apart(write):
    content = "".join(line(id=i, prompt="x") for i in range(5000))
    assert len({item.id for item in read_prompts(write(content))}) == 5000
    repeated = write(content + line(id=1234, prompt="y"))
    assert "x.jsonl:5001: field 'id': '1234' is also the id of line 1235" in fault(repeated)


# Responses


def test_score_rows(write):
    content = line(prompt="a", response="b", model="m", x=1) + line(prompt="a", response="")
    (item, (first,)), (_, (second,)) = read_data(write(content), "score")
    assert (first.id, first.text, first.model, dict(item.meta)) == ("1", "b", "m", {"x": 1})
    assert (second.text, second.model) == ("", None)


def test_compare_rows(write):
    row = line(prompt="a", response_a="b", response_b=[ASSISTANT], model_b="m", label="A")
    [(item, (a, b))] = read_data(write(row), "compare")
    assert [(c.id, c.text, c.model) for c in (a, b)] == [("A", "b", None), ("B", "Hello", "m")]
    assert item.meta == {"label": "A"}


def test_rank_rows(write):
    listed = [
        "b",
        [ASSISTANT],
        {"response": "c", "model": "m", "id": None},
        {"id": "k", "response": "d"},
    ]
    [(_, found)] = read_data(write(line(prompt="a", responses=listed)), "rank")
    assert [c.id for c in found] == ["1", "2", "3", "k"]
    assert [c.text for c in found] == ["b", "Hello", "c", "d"]
    assert [c.model for c in found] == [None, None, "m", None]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("score", {}, "field 'response': is missing; the row has 'prompt'"),
        ("score", {"response": 1}, "field 'response': should be text or a list of messages, found"),
        ("score", {"response": [USER]}, "field 'response': should end in an assistant turn"),
        (
            "score",
            {"response": "b", "model": 1},
            "field 'model': should be text, found the number 1",
        ),
        (
            "compare",
            {"response_a": "b"},
            "field 'response_b': is missing; the row has 'prompt', 'r",
        ),
        ("rank", {"responses": "b"}, "field 'responses': should be a list of responses, found the"),
        ("rank", {"responses": ["b"]}, "field 'responses': needs two responses or more to rank"),
        ("rank", {"responses": ["b", 1]}, "field 'responses.1': should be text or a list of mess"),
        ("rank", {"responses": ["b", {"id": "c"}]}, "field 'responses.1.response': is missing"),
        (
            "rank",
            {"responses": ["b", {"response": "c", "modle": "m"}]},
            "field 'responses.1.modle': is not a known field; did you mean 'model'?",
        ),
        (
            "rank",
            {"responses": ["b", {"response": "c", "id": 2}]},
            "field 'responses.1.id': should be text, found the number 2",
        ),
        (
            "rank",
            {"responses": ["b", {"response": "c", "id": "1"}]},
            "field 'responses.1.id': id '1' is given twice",
        ),
    ],
)
def test_faults_of_data(write, kind, fields, message):
    assert f"x.jsonl:1: {message}" in fault(write(line(prompt="a", **fields)), kind)


# Other formats


def test_json_arrays_know_the_line_of_each_row(write):
    path = write('\n[{"prompt": "a"},\n {"prompt":\n "b"},\n{"promt": "c"}]\n', "x.json")
    assert texts(read_prompts(path, limit=2)) == ["a", "b"]
    assert fault(path).startswith("x.json:5: field 'prompt': is missing")


def test_json_may_hold_one_row_a_line(write):
    path = write('{"prompt": "a"}\n\n{"prompt": "b"}\n', "x.json")
    assert texts(read_prompts(path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "x.json: holds no rows"),
        ('[{"prompt": "a"}', "x.json:1: is not JSON: expected ',' or ']'"),
        ('[{"prompt": "a"}\n{"prompt": "b"}]', "x.json:2: is not JSON: expected ',' or ']'"),
        ('[{"prompt": "a"}] 1', "x.json:1: is not JSON: more text behind the list"),
        ('[{"prompt": "a"},\n {"prompt": }]', "x.json:2: is not JSON at column 13: Expecting"),
        ('[{"prompt": "a"},\n NaN]', "x.json:2: is not JSON: NaN is not a JSON value"),
        ('[{"prompt": "a"}, 1]', "x.json:1: a row should be a mapping, found the number 1"),
        ('\n{\n"prompt": "a"}', "x.json:2: should hold a list of rows, or one row a line"),
        ("[" * 100_000, "x.json:1: is not JSON that can be read: it is nested too deeply"),
        (b'[{"prompt":\n "\xff"}]', "x.json:2: is not UTF-8 at byte 3 of the line"),
    ],
)
def test_faults_of_json(write, content, message):
    assert message in fault(write(content, "x.json"))


def test_json_arrays_are_bounded(write, monkeypatch):
    monkeypatch.setattr(rows, "MAX_JSON_BYTES", 10)
    assert "larger than 10 bytes; as JSONL it" in fault(write('[{"prompt": "a"}]', "x.json"))


def test_csv(write):
    content = '\ufeffid,prompt,x,response\r\n1,"a\nb",,\r\n\r\n,"c, d",y,"e\0"\r\n'
    (first, (one,)), (second, (two,)) = read_data(write(content, "x.csv"), "score")
    assert (first.id, first.prompt[0].content, dict(first.meta), one.text) == ("1", "a\nb", {}, "")
    assert (second.prompt[0].content, dict(second.meta), two.text) == ("c, d", {"x": "y"}, "e\0")
    tabbed = write("prompt\tx\na, b\tc\n", "x.TSV")
    assert texts(read_prompts(tabbed)) == ["a, b"]


def test_csv_cells_of_lists_are_json(write):
    content = 'prompt,responses,meta\nx,"[""a"", ""b""]","{""k"": 1}"\n'
    [(item, found)] = read_data(write(content, "x.csv"), "rank")
    assert ([c.text for c in found], dict(item.meta)) == (["a", "b"], {"k": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.csv: holds no rows"),
        ("prompt\n", "x.csv: holds no rows"),
        ("prompt,x\na,b\na,b,c\n", "x.csv:3: has 3 cells where the header has 2"),
        ("prompt,prompt\na,b\n", "x.csv:1: field 'prompt': is the name of two columns"),
        ('prompt\n"a\n', "x.csv:2: is not CSV: unexpected end of data"),
        ('id,prompt\n1,"a\nb"\n2,\n', "x.csv:4: field 'prompt': is missing; the row has 'id'"),
        ('prompt,turns\na,"[x"\n', "x.csv:2: field 'turns': is not JSON at column 2"),
        (b"prompt\n\xff\n", "x.csv:2: is not UTF-8 at byte 1 of the line"),
    ],
)
def test_faults_of_csv(write, content, message):
    assert message in fault(write(content, "x.csv"))


def test_gzip(write):
    rows = (line(prompt="a") + line(prompt="b")).encode()
    assert texts(read_prompts(write(gzip.compress(rows), "x.jsonl.gz"))) == ["a", "b"]
    assert texts(read_prompts(write(gzip.compress(b"prompt\na\n"), "x.csv.gz"))) == ["a"]
    assert "x.jsonl.gz: is not a whole gzip file" in fault(write(rows, "x.jsonl.gz"))
    cut = write(gzip.compress(os.urandom(5000).hex().encode())[:-2000], "x.jsonl.gz")
    assert "x.jsonl.gz: is not a whole gzip file" in fault(cut)


def test_standard_input(monkeypatch):
    stream = io.BytesIO(line(prompt="a").encode())
    assert texts(read_prompts("-", stdin=stream)) == ["a"]
    assert fault("-", stdin=io.BytesIO(b"x")).startswith("<stdin>:1: is not JSON at column 1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line(prompt="b").encode())))
    assert texts(read_prompts("-")) == ["b"]


def test_a_pipe_without_a_suffix_is_jsonl(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(line(prompt="a"),))
    writer.start()
    assert texts(read_prompts(pipe)) == ["a"]
    writer.join()


def test_files_that_cannot_be_read(write, tmp_path):
    assert fault(tmp_path / "no.jsonl") == "no.jsonl: there is no such file"
    assert fault(tmp_path / "no.parquet") == "no.parquet: there is no such file"
    assert fault(tmp_path / "no") == "no: there is no such file"
    assert fault("a\0b.jsonl").endswith("is not a file name")
    assert "cannot be read: File name too long" in fault(tmp_path / ("a" * 300 + ".jsonl"))
    assert "is of a kind that is not read here; known: .jsonl" in fault(write("a", "x.txt"))
    assert "is a folder, and not one that datasets.save_to_disk wrote" in fault(tmp_path)


def parquet(path, table):
    from pyarrow import parquet as module

    module.write_table(table, path)
    return path


def test_parquet(tmp_path):
    import datetime

    pa = pytest.importorskip("pyarrow")
    rows = [
        {
            "prompt": [USER],
            "responses": [{"id": "x", "response": "b"}, {"response": "c"}],
            "n": None,
        },
        {
            "prompt": [ASSISTANT, USER],
            "responses": [{"response": "b"}, {"response": "c"}],
            "n": datetime.date(2020, 1, 2),
        },
    ]
    path = parquet(tmp_path / "x.parquet", pa.Table.from_pylist(rows))
    (first, found), (second, _) = read_data(path, "rank")
    assert ([c.id for c in found], dict(first.meta)) == (["x", "2"], {})
    assert (len(second.prompt), dict(second.meta)) == (2, {"n": "2020-01-02"})


def test_parquet_and_jsonl_agree(tmp_path, write):
    pa = pytest.importorskip("pyarrow")
    rows = [{"prompt": "a", "x": {"k": [1, 2]}}, {"prompt": "b", "reference": "r"}]
    table = pa.Table.from_pylist(rows).append_column("reference", pa.array([None, "r"]))
    path = parquet(tmp_path / "x.parquet", table)
    assert list(read_prompts(path)) == list(read_prompts(write("".join(line(**r) for r in rows))))


def test_faults_of_parquet(tmp_path, write):
    pa = pytest.importorskip("pyarrow")
    path = parquet(tmp_path / "x.parquet", pa.table({"prompt": ["a", None], "x": [1, 2]}))
    assert fault(path).startswith("x.parquet:2: field 'prompt': is missing; the row has 'x'")
    path = parquet(path, pa.table({"prompt": ["a"], "x": [float("nan")]}))
    assert fault(path) == (
        "x.parquet:1: field 'meta.x': holds the number nan, which JSON cannot say; drop the column"
    )
    path = parquet(path, pa.table({"prompt": ["a"], "x": [b"\x89PNG"]}))
    assert "field 'meta.x': holds bytes, which JSON cannot say" in fault(path)
    path = parquet(path, pa.table({"prompt": pa.array([], pa.string())}))
    assert fault(path) == "x.parquet: holds no rows"
    assert "is not Parquet that can be read" in fault(write("PAR1", "x.parquet"))


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "x.parquet"), ("datasets", "folder")])
def test_packages_of_an_extra_are_named_where_missing(tmp_path, monkeypatch, package, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"needs: pip install 'rlaif\[train\]'"):
        next(read_prompts(tmp_path / name))


def test_datasets_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(
        [{"prompt": [USER], "response": "b"}, {"prompt": [USER], "response": None}]
    )
    data.save_to_disk(str(tmp_path / "data"))
    rows = read_data(tmp_path / "data", "score")
    item, (candidate,) = next(rows)
    assert (item.prompt, candidate.text) == ((Message("user", "Hi"),), "b")
    with pytest.raises(SpecError, match="data:2: field 'response': is missing"):
        next(rows)
    datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(SpecError, match=r"holds the splits test, train; name one, such as .*/test"):
        next(read_prompts(tmp_path / "splits"))
    (tmp_path / "data" / "state.json").write_text("{}")
    with pytest.raises(SpecError, match="is not a dataset that can be read"):
        next(read_prompts(tmp_path / "data"))


# Properties

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
COLUMNS = st.sampled_from(["id", "prompt", "reference", "meta", "turns", "response", "model", "x"])


@given(st.text(min_size=1).filter(str.strip), st.text(), st.dictionaries(st.text(), json_values))
def test_what_is_written_is_read(prompt, response, meta):
    row = {"id": "a", "prompt": prompt, "response": response, "meta": meta}
    [(item, (candidate,))] = read_data("-", "score", stdin=io.BytesIO(json_line(row).encode()))
    assert (texts([item]), candidate.text, dict(item.meta)) == ([prompt], response, meta)


@given(st.lists(st.dictionaries(COLUMNS, json_values), max_size=4))
def test_rows_give_items_that_can_be_written_or_a_spec_error(rows):
    content = "".join(json_line(row) for row in rows).encode()
    try:
        found = list(read_data("-", "score", stdin=io.BytesIO(content)))
    except SpecError as error:
        assert str(error).startswith("<stdin>")  # noqa: PT017
    else:
        assert len({item.id for item, _ in found}) == len(rows)
        assert all(json_line(dict(item.meta)) for item, _ in found)


@given(st.binary(max_size=80), st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.jsonl.gz"]))
def test_no_bytes_crash_a_reader(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        found = list(read_prompts(path))
    except SpecError as error:
        assert error.path == str(path)  # noqa: PT017
    else:
        assert found


RUBRIC_ROW = {
    "id": "1",
    "input": "Q?",
    "system_prompt": "Be kind.",
    "reference_answer": "Dear you.",
    "score_rubric": {"criteria": "Is it kind?"},
    "task": "letters",
}


def rubric_rows(tmp_path, **changes):
    row = {k: v for k, v in (RUBRIC_ROW | changes).items() if v is not None}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


def test_a_row_with_its_own_rubric_is_a_prompt_as_it_is(tmp_path):
    [item] = read_prompts(rubric_rows(tmp_path))
    assert item.prompt == (Message("system", "Be kind."), Message("user", "Q?"))
    assert item.reference == "Dear you."
    assert item.meta == {"score_rubric": RUBRIC_ROW["score_rubric"], "task": "letters"}
    [item] = read_prompts(rubric_rows(tmp_path, system_prompt=None, reference_answer=None))
    assert (item.prompt, item.reference) == ((Message("user", "Q?"),), None)
    path = rubric_rows(tmp_path, input=None, instruction="R?", reference="Own.", response="Hi.")
    [(item, [candidate])] = read_data(path, "score")
    assert (item.prompt[-1].content, item.reference, candidate.text) == ("R?", "Own.", "Hi.")


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"input": " "}, "input", "is empty"),
        ({"input": 3}, "input", "should be text or a list of messages"),
        ({"system_prompt": 3}, "system_prompt", "should be text"),
        ({"score_rubric": None}, "prompt", "is missing"),
        ({"input": None}, "prompt", "is missing"),
    ],
)
def test_a_row_with_its_own_rubric_may_be_wrong(tmp_path, changes, field, message):
    with pytest.raises(SpecError) as caught:
        list(read_prompts(rubric_rows(tmp_path, **changes)))
    assert (caught.value.line, caught.value.field) == (1, field)
    assert message in caught.value.message


def test_a_prompt_beside_a_rubric_wins_over_an_input(tmp_path):
    [item] = read_prompts(rubric_rows(tmp_path, prompt="P?"))
    assert item.prompt == (Message("user", "P?"),)
    assert item.meta["input"] == "Q?"
