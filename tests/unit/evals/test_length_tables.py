from __future__ import annotations

import pytest

from rlaif.errors import ConfigError, SpecError
from rlaif.evals.length_tables import load_length_control, read_difficulty, read_weights
from rlaif.stats.length_control import LengthWeights

HEADER = "model,np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\n"


@pytest.fixture
def write(tmp_path):
    def written(text: str, name: str = "file.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_difficulties_and_weights_are_found_by_name(write) -> None:
    assert read_difficulty(write("\ufeffindex,instruction_difficulty\n0,-0.5\n7,1e-3\n")) == {
        "0": -0.5,
        "7": 0.001,
    }
    # the first column is the model whatever it is called
    text = HEADER.replace("model", "") + "x,-1.5,0.5,2\n"
    assert read_weights(write(text)) == {"x": LengthWeights(-1.5, 0.5, 2.0)}


@pytest.mark.parametrize(
    ("text", "line", "field", "said"),
    [
        ("index,difficulty\n0,1\n", 1, "instruction_difficulty", "no such column"),
        ("index,instruction_difficulty\n0,1\n0,2\n", 3, "index", "'0' is there twice"),
        ("index,instruction_difficulty\n,2\n", 2, "index", "is empty"),
        ("index,instruction_difficulty\n0,hard\n", 2, "instruction_difficulty", "'hard' is not"),
        ("index,instruction_difficulty\n0,nan\n", 2, "instruction_difficulty", "'nan' is not"),
        ("index,instruction_difficulty\n0\n", 2, "instruction_difficulty", "'' is not"),
        ("", 1, "instruction_difficulty", "no such column"),
    ],
)
def test_a_file_that_does_not_fit_names_line_and_column(write, text, line, field, said) -> None:
    path = write(text)
    with pytest.raises(SpecError, match=said) as caught:
        read_difficulty(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), line, field)


def test_an_unreadable_file_is_an_error_of_ours(tmp_path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_weights(tmp_path / "absent.csv")


def test_modes_need_their_files(write) -> None:
    path = write("index,instruction_difficulty\n0,1\n")
    assert load_length_control("refit", None, None).difficulty is None
    assert load_length_control("refit", path, None).difficulty == {"0": 1.0}
    assert load_length_control("ratio", None, None).mode == "ratio"
    with pytest.raises(ConfigError, match="needs --difficulty and --weights"):
        load_length_control("weights", path, None)
    with pytest.raises(ConfigError, match="weights, refit, ratio, not 'guess'"):
        load_length_control("guess", None, None)
