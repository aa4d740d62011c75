import gzip
import json

import pytest
from typer.testing import CliRunner

from rlaif.canonical import json_line
from rlaif.cli.importing import exports, imports
from rlaif.errors import ConfigError, SpecError
from rlaif.store.runs import read_verdicts
from tests.unit.evals.formats import samples

GARBAGE = {"g1_winner": "error", "g1_judgment": "%&/", "g2_winner": "error", "g2_judgment": "?"}


@pytest.fixture
def write(tmp_path):
    def writer(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(map(json_line, rows)), encoding="utf-8")
        return path

    return writer


def call(app, *words, exit_code=0):
    """Standard output and standard error of one command."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, SpecError | ConfigError):
        raise done.exception
    assert done.exit_code == exit_code, done.output
    return done.stdout, done.stderr


def games(n, **more):
    return [samples.pair(question_id=i, **more) for i in range(n)]


def test_judgments_become_a_run(write, tmp_path):
    rows = games(19) + games(1, turn=2, **GARBAGE)
    run = tmp_path / "run"
    out, _ = call(imports, "mt-bench-pair", write(*rows), "-o", run)
    assert "95.0%" in out
    assert "1 unreadable" in out
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json",
        "summary.json",
        "verdicts.jsonl",
    ]
    verdicts = list(read_verdicts(run))
    assert [v.item.id for v in verdicts] == [f"{i}:1" for i in range(19)] + ["0:2"]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["n"], summary["ok"], summary["reading"]) == (20, 19, "recorded")


def test_a_fifth_of_garbage_is_over_the_failure_limit(write, tmp_path):
    path = write(*games(8), *games(2, turn=2, **GARBAGE))
    _, err = call(imports, "mt-bench-pair", path, "-o", tmp_path / "run", exit_code=1)
    assert "20.0% of the rows have no verdict" in err
    assert len(list(read_verdicts(tmp_path / "run"))) == 10
    call(imports, "mt-bench-pair", path, "-o", tmp_path / "run", "--max-failures", "0.2")


def test_replies_are_read_anew(write, tmp_path):
    wrong = samples.pair(
        g1_judgment="I considered [[A]].\nBut the verdict is [[B]]", g1_winner="model_1"
    )
    path, run = write(wrong), tmp_path / "run"
    out, _ = call(imports, "mt-bench-pair", path, "--reparse", "-o", run, "--json")
    summary = json.loads(out)
    assert (summary["n"], summary["coverage"], summary["causes"]) == (1, 1.0, {})
    assert (summary["reread"], summary["disagreements"]) == (2, 1)
    [row] = map(json.loads, (run / "disagreements.jsonl").read_text().splitlines())
    assert {k: row[k] for k in ("line", "item", "shown", "recorded", "read", "cause")} == {
        "line": 1,
        "item": "81:1",
        "shown": "AB",
        "recorded": "A",
        "read": "B",
        "cause": None,
    }
    [verdict] = read_verdicts(run)
    assert (verdict.preference.winner, verdict.preference.consistent) == ("B", True)
    # the old rule takes the mention for the verdict, as it did when the file was made
    out, _ = call(imports, "mt-bench-pair", path, "--legacy", "-o", tmp_path / "legacy", "--json")
    assert json.loads(out)["disagreements"] == 0
    both = tmp_path / "both"
    out, _ = call(imports, "mt-bench-pair", path, "--legacy", "--reparse", "-o", both)
    assert "ours, against legacy" in out
    [row] = map(json.loads, (both / "disagreements.jsonl").read_text().splitlines())
    assert (row["read"], row["legacy"]) == ("B", "A")


def test_a_bad_row_leaves_nothing(write, tmp_path):
    path = write(samples.pair(), samples.pair(turn="two"))
    run = tmp_path / "run"
    with pytest.raises(SpecError, match=r"rows\.jsonl:2: field 'turn'"):
        call(imports, "mt-bench-pair", path, "--reparse", "-o", run)
    assert not run.exists()
    run.mkdir()
    with pytest.raises(SpecError, match="field 'turn'"):
        call(imports, "mt-bench-pair", path, "-o", run)
    assert list(run.iterdir()) == []
    # put right, the file finds no trace of the attempt
    call(imports, "mt-bench-pair", write(samples.pair()), "-o", run)


def test_a_finished_run_survives_what_follows(write, tmp_path):
    path, run = write(samples.pair()), tmp_path / "run"
    call(imports, "mt-bench-pair", path, "-o", run)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    path = write(samples.pair(turn="two"))
    with pytest.raises(ConfigError, match="files_sha256"):
        call(imports, "mt-bench-pair", path, "-o", run)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_texts_judges_and_repeats_are_told(write, tmp_path):
    questions = write(
        {"question_id": 81, "category": "writing", "turns": ["q1", "q2"]}, name="q.jsonl"
    )
    answers = write(
        {"question_id": 81, "model_id": "other", "choices": [{"turns": ["a1", "a2"]}]},
        name="m1.jsonl",
    )
    rows = [samples.single(), samples.single(score=9), samples.single(judge="x", score=1)]
    options = ["--questions", questions, "--answers", answers, "--judge", "gpt-4"]
    run = tmp_path / "run"
    out, err = call(imports, "mt-bench-single", write(*rows), *options, "-o", run)
    assert "superseded" in out
    assert "other judges" in out
    assert "note:" in err
    assert "taken as 'm1'" in err
    [verdict] = read_verdicts(run)
    assert (verdict.score.value, verdict.candidates[0].text) == (9, "a1")


def test_columns_of_pairs_are_named_by_options(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("q,one,two,best\nWhy?,a,,2\n")
    names = ["--prompt-column", "q", "--response-a-column", "one", "--response-b-column", "two"]
    run = tmp_path / "run"
    call(imports, "pairs", path, *names, "--winner-column", "best", "--judge", "ann", "-o", run)
    [verdict] = read_verdicts(run)
    assert (verdict.preference.winner, verdict.judge.model) == ("B", "ann")
    assert [c.text for c in verdict.candidates] == ["a", ""]


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        call(imports, "pairs", tmp_path / "x.csv", "-o", tmp_path / "run")
    with pytest.raises(SpecError, match="no such file"):
        call(exports, "pairs", tmp_path / "run", "-o", tmp_path / "x.csv")
    with pytest.raises(ConfigError, match="'pear' is not a format: did you mean 'pairs'"):
        call(imports, "pear", tmp_path / "x.csv")
    with pytest.raises(ConfigError, match="'pear' is not a format"):
        call(exports, "pear", tmp_path / "x", "-o", tmp_path / "x.csv")


def test_an_import_goes_back_to_the_same_rows(write, tmp_path):
    rows = [*games(3), samples.pair(turn=2, **GARBAGE)]
    run = tmp_path / "run"
    call(imports, "mt-bench-pair", write(*rows), "-o", run, "--max-failures", "1")
    file = tmp_path / "back.jsonl.gz"
    out, _ = call(exports, "mt-bench-pair", run, "-o", file)
    assert "not kept" not in out
    with gzip.open(file, "rt") as lines:
        assert [json.loads(line) for line in lines] == rows
    out, _ = call(exports, "mt-bench-human", run / "verdicts.jsonl", "-o", file, "--json")
    told = json.loads(out)
    assert (told["rows"], told["verdicts"]) == (4, 4)
    assert told["lost"] == {"calls.reply": 4, "cause": 1, "preference.orders": 3}


def test_what_a_format_cannot_keep_is_printed(write, tmp_path):
    run = tmp_path / "run"
    call(imports, "mt-bench-pair", write(*games(2)), "-o", run)
    out, _ = call(exports, "pairs", run, "-o", tmp_path / "x.csv")
    assert "not kept" in out
    assert "preference.orders" in out
    call(imports, "pairs", tmp_path / "x.csv", "-o", tmp_path / "again")
    again = [v.preference.winner for v in read_verdicts(tmp_path / "again")]
    assert again == [v.preference.winner for v in read_verdicts(run)]
