from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, SpecError
from rlaif.train.dpo import DPO, DPOSettings
from rlaif.train.kto import KTOSettings
from rlaif.train.reward import RewardSettings
from rlaif.train.settings import load_settings, read_yaml, resolved, size_of


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "dpo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = _yaml(
        tmp_path, "beta: 0.3\nbatch_size: 4\nlabels: soft\ntrl: {lr_scheduler_type: cosine}"
    )
    found = load_settings(DPOSettings, path, {"beta": 0.2, "report_to": ["wandb"]})
    assert (found.beta, found.batch_size, found.labels) == (0.2, 4, "soft")
    assert found.trl == {"lr_scheduler_type": "cosine"}
    assert found.report_to == ("wandb",)
    assert load_settings(DPOSettings, None, {}) == DPOSettings()


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("betta: 1", "betta", "did you mean 'beta'"),
        ("beta: much", "beta", "valid number"),
        ("labels: firm", "labels", "'hard' or 'soft'"),
        ("batch_size: 0", None, "batch_size is 0"),
        ("trl: {output_dir: x}", None, "output_dir is set by rlaif itself"),
        ("[1]", None, "should hold a mapping"),
        ("1: 2", "1", "no such setting"),
        ("a: [", None, "not YAML"),
        ("beta: 0.1\nbeta: 0.2", "beta", "twice"),
        ("a: " + "[" * 100_000, None, "nested deeper"),
        ("a: " + "9" * 5000, "a", "not a valid int"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    text: str, field: str | None, message: str, tmp_path: Path
) -> None:
    path = _yaml(tmp_path, text)
    with pytest.raises(SpecError, match=message) as caught:
        load_settings(DPOSettings, path, {})
    assert (caught.value.path, caught.value.field) == (str(path), field)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff")
    with pytest.raises(SpecError, match="not UTF-8"):
        read_yaml(bad)


def test_an_option_that_does_not_fit_is_not_the_files_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed: "):
        load_settings(DPOSettings, _yaml(tmp_path, "beta: 0.3"), {"seed": "x"})


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (DPOSettings, {"epochs": 0}, "epochs is 0"),
        (DPOSettings, {"learning_rate": -1.0}, "learning_rate is -1.0"),
        (DPOSettings, {"learning_rate": float("nan")}, "learning_rate is nan"),
        (DPOSettings, {"batch_size": 6, "micro_batch_size": 4}, "6 is no multiple of"),
        (DPOSettings, {"lora_rank": -1}, "lora_rank is -1"),
        (DPOSettings, {"beta": 0.0}, "beta is 0.0"),
        (KTOSettings, {"beta": 0.0}, "beta is 0.0"),
        (KTOSettings, {"micro_batch_size": 1}, "2 or more rows in memory"),
        (RewardSettings, {"margin_scale": -1.0}, "margin_scale is -1.0"),
        (RewardSettings, {"center": float("inf")}, "center is inf"),
    ],
)
def test_settings_that_cannot_be_trained_with(
    kind: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**given)


def test_defaults_go_by_the_size_of_the_model() -> None:
    assert [size_of(n) for n in (1.35e8, 7e9, 7e10)] == ["small", "medium", "large"]
    small = resolved(DPOSettings(), 135_000_000, DPO.rates)
    large = resolved(DPOSettings(), 70_000_000_000, DPO.rates)
    assert (small.learning_rate, small.micro_batch_size) == (2e-4, 4)
    assert (large.learning_rate, large.micro_batch_size) == (1e-5, 1)
    whole = resolved(DPOSettings(lora_rank=0, batch_size=6), 135_000_000, DPO.rates)
    assert (whole.learning_rate, whole.micro_batch_size) == (1e-5, 3)
    given = DPOSettings(learning_rate=1.0, micro_batch_size=2)
    assert resolved(given, 7_000_000_000, DPO.rates) == given


def test_what_does_not_change_the_result_is_no_part_of_a_runs_identity() -> None:
    one = DPOSettings(save_steps=1, report_to=("wandb",), keep_checkpoints=1)
    assert one.identity() == DPOSettings().identity()
    assert DPOSettings(beta=0.2).identity() != DPOSettings().identity()
