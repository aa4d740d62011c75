"""`rlaif leaderboard` and `rlaif agreement` on small runs: tables, JSON, files and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rlaif.cli.agreement import app as agreement
from rlaif.cli.leaderboard import app as leaderboard
from rlaif.errors import ConfigError, SpecError, StoreError
from rlaif.types import Message
from tests.unit.evals.records import grade, pair, write_run


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def invoke(app, *arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def raised(app, *arguments):
    return invoke(app, *arguments).exception


@pytest.fixture
def run(tmp_path):
    meta = [{"turn": 1 + n % 2, "category": "math", "label": "A"} for n in range(20)]
    verdicts = [pair(str(n), "x", "y", "ABA"[n % 3], meta=meta[n]) for n in range(20)]
    return write_run(tmp_path / "run", verdicts)


@pytest.fixture
def votes(tmp_path):
    names = ["expert_1", "expert_2", "author_1"]
    made = [
        pair(str(n), "y", "x", "BA"[n % 2], judge=name, meta={"turn": 1 + n % 2})
        for n in range(20)
        for name in names
    ]
    return write_run(tmp_path / "votes", made)


def test_the_table_shows_n_coverage_and_the_interval_with_its_level(run) -> None:
    done = invoke(leaderboard, run, "--level", 0.9)
    assert done.exit_code == 0, done.output
    for shown in ("90% interval", "coverage", "100.0%", "win rate by turn", "strength", "math"):
        assert shown in done.output
    assert "without verdict" not in done.output


def test_a_field_that_no_item_has_divides_nothing(run, votes) -> None:
    message = "--by colour: no item has 'colour' in its meta"
    for words in ((leaderboard, run), (agreement, run, "--with", votes)):
        error = raised(*words, "--by", "turn", "--by", "colour")
        assert isinstance(error, ConfigError)
        assert str(error) == message


def test_only_strengths_that_are_shown_are_said_to_be_in_nats(run) -> None:
    note = "strengths in nats"
    assert note in invoke(leaderboard, run).output
    assert note not in invoke(leaderboard, run, "--baseline", "y").output


def test_json_is_one_object_and_the_file_is_the_same(run, tmp_path) -> None:
    done = invoke(leaderboard, run, "--json", "-o", tmp_path / "out", "--elo", "--by", "turn")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made == json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    for row in made["rows"]:
        assert set(row) >= {"model", "n", "coverage", "causes", "win_rate", "win_rate_se"}
        assert set(row) >= {"discrete_win_rate", "strength", "low", "high", "elo"}
        assert list(row["by"]) == ["turn"]
    invoke(leaderboard, run, "-o", tmp_path / "mine.json")
    assert json.loads((tmp_path / "mine.json").read_text())["kind"] == "comparison"


def test_garbage_over_the_limit_is_shown_and_ends_with_code_1(run, tmp_path) -> None:
    clean = json.loads(invoke(leaderboard, run, "--json").stdout)
    lost = write_run(tmp_path / "lost", [pair(f"g{n}", "x", "y", None) for n in range(5)])
    done = invoke(leaderboard, run, lost, "--json")
    assert done.exit_code == 1
    made = json.loads(done.stdout)
    assert [r["win_rate"] for r in made["rows"]] == [r["win_rate"] for r in clean["rows"]]
    assert made["rows"][0]["coverage"] == 0.8
    assert "over the limit of 5.0%: all models 20.0%, x 20.0%, y 20.0%" in done.stderr
    shown = invoke(leaderboard, run, lost)
    assert (shown.exit_code, "5 unreadable" in shown.output) == (1, True)
    assert invoke(leaderboard, run, lost, "--max-failures", 0.3).exit_code == 0


def test_one_model_that_fails_much_is_over_the_limit_though_the_whole_is_not(tmp_path) -> None:
    verdicts = [grade(f"{n}", "x", 5) for n in range(98)]
    verdicts += [grade(f"{n}", "y", None if n else 5) for n in range(2)]
    done = invoke(leaderboard, write_run(tmp_path / "run", verdicts))
    assert done.exit_code == 1
    assert "y 50.0%" in done.stderr


def test_a_mix_of_judges_and_a_wrong_name_are_refused(run, votes) -> None:
    error = raised(leaderboard, run, votes)
    assert isinstance(error, SpecError)
    assert "a mix of 4 judges, author_1, expert_1, expert_2, judge" in str(error)
    assert f"{votes}/verdicts.jsonl:1: field 'judge.model'" in str(error)
    assert invoke(leaderboard, run, votes, "--judge", "expert*").exit_code == 0
    error = raised(leaderboard, run, "--baseline", "zebra")
    assert isinstance(error, ConfigError)
    assert "known: x, y" in str(error)


def test_options_that_would_not_be_read_are_refused(run, tmp_path) -> None:
    file = tmp_path / "f.csv"
    assert "--difficulty goes with" in str(raised(leaderboard, run, "--difficulty", file))
    assert "--weights goes with" in str(
        raised(leaderboard, run, "--length-controlled", "refit", "--weights", file)
    )
    assert "--majority goes with votes" in str(
        raised(agreement, run, "--with", "labels", "--majority")
    )


def test_length_control_ratio_and_a_reference_are_printed(run, tmp_path) -> None:
    texts = [("a" * (50 + 7 * n % 40), "b" * (60 + 5 * n % 30)) for n in range(20)]
    verdicts = [pair(str(n), "x", "y", "ABA"[n % 3], texts=texts[n]) for n in range(20)]
    long = write_run(tmp_path / "long", verdicts)
    done = invoke(
        leaderboard, long, "--length-controlled", "ratio", "--rounds", 5, "--reference", run
    )
    assert done.exit_code == 0, done.output
    assert "LC win rate" in done.output
    assert "Kendall tau" in done.output


def test_strengths_that_have_no_value_are_explained(tmp_path) -> None:
    sweep = write_run(tmp_path / "sweep", [pair(str(n), "x", "y", "A") for n in range(9)])
    done = invoke(leaderboard, sweep)
    assert done.exit_code == 0
    assert "never lost to the rest" in " ".join(done.output.split())


def test_grades_with_more_categories_than_models_stand_upright(tmp_path) -> None:
    verdicts = [grade(str(n), "x", n % 5 + 1, meta={"category": f"c{n % 4}"}) for n in range(12)]
    done = invoke(leaderboard, write_run(tmp_path / "run", verdicts))
    assert done.exit_code == 0, done.output
    assert "score by category" in done.output
    assert "c3" in done.output


def test_agreement_with_votes(run, votes, tmp_path) -> None:
    done = invoke(
        agreement, run, "--with", votes, "--voters", "expert", "--json", "-o", tmp_path / "a.json"
    )
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made == json.loads((tmp_path / "a.json").read_text())
    assert made["against"] == "2 judges: expert*"
    assert set(made["setups"]) == {"S1", "S2"}
    assert set(made["setups"]["S1"]) >= {"n", "agreement", "kappa", "low", "high", "coverage"}
    assert made["setups"]["S1"]["n"] == 40
    assert set(made["by"]) == {"turn", "category"}
    shown = invoke(agreement, run, "--with", votes, "--judge", "judge", "--majority")
    assert "turn 2" in shown.output
    among = invoke(agreement, votes, "--with", votes, "--json", "--rounds", 5)
    assert json.loads(among.stdout)["setups"]["S1"]["n"] == 60
    assert raised(agreement, votes, "--with", run).args[0].startswith("a mix of 3 judges")


def test_agreement_with_labels(run) -> None:
    made = json.loads(invoke(agreement, run, "--with", "labels", "--json").stdout)
    assert set(made["subsets"]) == {"all", "math"}
    assert set(made["subsets"]["all"]) >= {
        "n", "coverage", "accuracy", "accuracy_own_rule", "accuracy_ab", "accuracy_ba",
        "position_agreement", "first_share", "kappa", "low", "high",
    }  # fmt: skip
    shown = invoke(agreement, run, "--with", "labels")
    assert "orders agree" in shown.output
    assert "95% interval" in shown.output


def test_agreement_over_the_limit_ends_with_code_1(run, votes, tmp_path) -> None:
    silent = [pair(str(n), "x", "y", None, meta={"turn": 1 + n % 2}) for n in range(20)]
    lost = write_run(tmp_path / "lost", silent)
    done = invoke(agreement, lost, "--with", votes)
    assert done.exit_code == 1
    assert "verdicts 100.0%" in done.stderr


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(run, tmp_path) -> None:
    (tmp_path / "file").touch()
    error = raised(leaderboard, run, "-o", tmp_path / "file" / "out")
    assert isinstance(error, StoreError)


@pytest.fixture
def labeled(tmp_path):
    """A judge that is sure of half of its verdicts and mostly right there, and people's votes."""
    sure = [n % 2 == 0 for n in range(300)]
    verdicts = [
        pair(
            str(n),
            "x",
            "y",
            "A",
            p_a=0.9 if sure[n] else 0.6,
            texts=("one", "two"),
            meta={"label": "A" if sure[n] or n % 3 else "B", "category": f"c{n % 3}"},
        )
        for n in range(300)
    ]
    verdicts.append(pair("lost", "x", "y", None, texts=("one", "two")))
    asked = (Message("user", "Which number?"),)
    verdicts = [replace(v, item=replace(v.item, prompt=asked)) for v in verdicts]
    votes = [
        pair(str(n), "y", "x", "B" if sure[n] or n % 3 else "A", judge=f"expert_{k}")
        for n in range(200)
        for k in range(2)
    ]
    return write_run(tmp_path / "judged", verdicts), write_run(tmp_path / "people", votes)


def test_calibration_is_added_to_agreement(labeled) -> None:
    run, people = labeled
    for others in (people, "labels"):
        done = invoke(agreement, run, "--with", others, "--calibrate", "platt", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["calibration"]
        assert found["method"] == "platt"
        assert found["after"]["brier"] <= found["before"]["brier"]
        assert found["map"]["slope"] > 1  # it is right more often than it says
    done = invoke(agreement, run, "--with", people, "--calibrate", "isotonic")
    assert "calibration, isotonic" in done.output
    assert "Krippendorff's alpha is 1.000" in " ".join(done.output.split())


def test_what_cannot_be_believed_is_written_for_a_stronger_judge(labeled, tmp_path) -> None:
    from rlaif.specs.items import read_data

    run, people = labeled
    asked = ["--with", people, "--select-agreement", 0.9, "--confidence", 0.9]
    done = invoke(agreement, run, *asked, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["selection"]
    assert (found["threshold"], found["kept"], found["escalated"]) == (0.9, 150, 151)
    assert found["coverage"] == pytest.approx(150 / 301)
    rows = list(read_data(tmp_path / "out" / "escalate.jsonl", "compare"))
    assert len(rows) == 151
    assert rows[0][0].meta["judged"] == "unreadable"  # without a verdict comes first
    assert {item.meta["p_a"] for item, _ in rows[1:]} == {0.6}
    assert [c.model for c in rows[1][1]] == ["x", "y"]
    assert rows[1][0].meta["question_id"] == "1"
    shown = invoke(agreement, run, *asked, "-o", tmp_path / "out")
    assert "Keep verdicts of confidence 0.900 and more: 150 of 301" in " ".join(
        shown.output.split()
    )
    assert not (tmp_path / "escalate.jsonl").exists()
    never = invoke(agreement, run, "--with", people, "--select-agreement", 0.999)
    assert "No threshold keeps an agreement" in " ".join(never.output.split())
    blocked = tmp_path / "file"
    blocked.write_text("")
    error = raised(agreement, run, *asked, "-o", blocked / "deep")
    assert isinstance(error, StoreError)


def test_win_rates_are_corrected_by_people_beside_the_plain_ones(labeled) -> None:
    run, people = labeled
    plain = json.loads(invoke(leaderboard, run, "--json").stdout)
    done = invoke(leaderboard, run, "--correct", people, "--voters", "expert", "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["corrected_by"] == f"{people}: expert*"
    for row, before in zip(made["rows"], plain["rows"], strict=True):
        assert row["win_rate"] == before["win_rate"]
        found = row["by_labels"]
        assert (found["n_judged"], found["n_labeled"]) == (300, 200)
        assert found["corrected_low"] < found["corrected"] < found["corrected_high"]
    shown = invoke(leaderboard, run, "--correct", "labels")
    assert "every verdict has a label" in shown.output
    shown = invoke(leaderboard, run, "--correct", people)
    assert "win rates by people's labels" in shown.output
    assert "200 of 300" in shown.output
    error = raised(leaderboard, run, "--voters", "expert")
    assert "--voters goes with --correct" in str(error)


def test_the_table_says_how_many_more_prompts_would_tell_neighbors_apart(tmp_path) -> None:
    verdicts = [
        pair(str(n), model, "base", "AAB"[(n + shift) % 3] if n % 7 else "BA"[shift])
        for n in range(60)
        for shift, model in enumerate(["x", "y"])
    ]
    run = write_run(tmp_path / "run", verdicts)
    done = invoke(leaderboard, run, "--baseline", "base", "--json")
    [found] = json.loads(done.stdout)["differences"]
    assert found["low"] <= 0 <= found["high"]
    assert found["more_prompts"] > 0
    assert found["prompts"] == 60
    shown = invoke(leaderboard, run, "--baseline", "base").output
    assert f"{found['more_prompts']:,} more" in shown
