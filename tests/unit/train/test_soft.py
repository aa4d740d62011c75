"""Soft labels in TRL's own trainers: the places where they lean on TRL are held to here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from rlaif.backends.local import weights_digest
from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.train.dpo import DPOSettings, train_dpo
from rlaif.train.labels import labeled_rows
from rlaif.train.losses import soft_dpo_loss, soft_reward_loss
from rlaif.train.reward import RewardSettings, train_reward
from rlaif.train.soft import check_same, dpo_delta, soft_dpo_trainer, soft_reward_trainer
from tests.unit.train.conftest import SMALL, make_pairs

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
P = [1.0, 0.6, 0.75, 0.5]


def trainer(kind: Any, config: Any, model: Path, folder: Path, rows: Any, **more: Any) -> Any:
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        set_seed,
    )

    set_seed(3)
    loader: Any = AutoModelForCausalLM
    given: dict[str, Any] = {}
    if "Reward" in config.__name__:
        loader, given = AutoModelForSequenceClassification, {"num_labels": 1}
    args = config(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=1,
        max_length=128,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        seed=0,
        **more,
    )
    made = kind(
        model=loader.from_pretrained(model, dtype=torch.float32, **given),
        args=args,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    # away from the start, where the policy is its own reference and every loss is log 2
    with torch.no_grad():
        for weights in made.model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    made.model.train()
    return made


def first_batch(made: Any) -> Any:
    return made._prepare_inputs(next(iter(made.get_train_dataloader())))


def grads(made: Any, loss: Any) -> Any:
    import torch

    made.model.zero_grad()
    loss.backward()
    return torch.cat([w.grad.flatten() for w in made.model.parameters() if w.grad is not None])


def both(kind: str, model: Path, folder: Path, columns: dict[str, Any], **more: Any) -> Any:
    import trl

    rows = make_pairs(4)
    soft = soft_dpo_trainer("conservative") if kind == "DPO" else soft_reward_trainer(0.0)
    if kind == "DPO":
        more["precompute_ref_log_probs"] = True
    config = getattr(trl, f"{kind}Config")
    plain = trainer(getattr(trl, f"{kind}Trainer"), config, model, folder, rows, **more)
    ours = trainer(soft, config, model, folder, make_pairs(4, **columns), **more)
    return plain, ours


@pytest.mark.parametrize(
    ("kind", "more"), [("DPO", {}), ("Reward", {}), ("Reward", {"center_rewards_coefficient": 0.1})]
)
def test_sure_labels_are_trls_own_loss_and_gradient(
    kind: str, more: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    plain, ours = both(kind, tiny_model, tmp_path, {"p_chosen": [1.0] * 4}, **more)
    theirs = plain.compute_loss(plain.model, first_batch(plain))
    found = ours.compute_loss(ours.model, first_batch(ours))
    assert theirs.item() != pytest.approx(0.6931, abs=1e-3)
    assert found.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert (grads(plain, theirs) - grads(ours, found)).abs().max() < 1e-6
    assert set(plain._metrics["train"]) == set(ours._metrics["train"])


def test_trls_robust_loss_is_ours_with_one_flip_rate(tiny_model: Path, tmp_path: Path) -> None:
    import trl

    given: dict[str, Any] = {"precompute_ref_log_probs": True}
    theirs = trainer(
        trl.DPOTrainer,
        trl.DPOConfig,
        tiny_model,
        tmp_path,
        make_pairs(4),
        loss_type=["robust"],
        label_smoothing=0.2,
        **given,
    )
    ours = trainer(
        soft_dpo_trainer("robust"),
        trl.DPOConfig,
        tiny_model,
        tmp_path,
        make_pairs(4, p_chosen=[0.8] * 4),
        **given,
    )
    expected = theirs.compute_loss(theirs.model, first_batch(theirs)).item()
    assert ours.compute_loss(ours.model, first_batch(ours)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_every_pair_has_its_own_label_and_weight(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    columns = {"p_chosen": P, "weight": [2.0, 0.0, 1.0, 1.0]}
    _, ours = both("DPO", tiny_model, tmp_path, columns)
    batch = first_batch(ours)
    assert set(columns) < set(batch)
    rest = {k: v for k, v in batch.items() if k not in columns}
    labels = rest["input_ids"].masked_fill(rest["completion_mask"] == 0, -100)
    with torch.no_grad():
        outputs = ours.model(
            input_ids=rest["input_ids"],
            attention_mask=rest["attention_mask"],
            labels=labels,
            fused_lm_head=True,
        )
        expected = soft_dpo_loss(
            dpo_delta(outputs, rest), batch["p_chosen"], 0.1, weight=batch["weight"]
        )
    found = ours.compute_loss(ours.model, batch)
    assert found.item() == pytest.approx(expected.mean().item(), abs=1e-6)


def test_the_gradient_of_the_network_is_that_of_differences(
    tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    _, ours = both("DPO", tiny_model, tmp_path, {"p_chosen": P})
    batch = first_batch(ours)
    slope = grads(ours, ours.compute_loss(ours.model, batch))
    moving = [w for w in ours.model.parameters() if w.grad is not None]
    ahead = [w.grad / slope.norm() for w in moving]
    found = []
    with torch.no_grad():
        for step in (1e-3, -2e-3):
            for w, way in zip(moving, ahead, strict=True):
                w.add_(step * way)
            found.append(ours.compute_loss(ours.model, batch).item())
    assert (found[0] - found[1]) / 2e-3 == pytest.approx(slope.norm().item(), rel=2e-2)


def test_a_margin_is_an_offset_of_the_difference(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    import trl

    columns = {"p_chosen": P, "margin": [1.0, 0.2, 0.5, 0.0]}
    rows = make_pairs(4, **columns)
    kind = soft_reward_trainer(2.0)
    ours = trainer(kind, trl.RewardConfig, tiny_model, tmp_path, rows)
    batch = first_batch(ours)
    with torch.no_grad():
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        chosen, rejected = ours.model(**inputs).logits.squeeze(-1).chunk(2)
    expected = soft_reward_loss(chosen - rejected, batch["p_chosen"], 2.0 * batch["margin"])
    found = ours.compute_loss(ours.model, batch)
    assert found.item() == pytest.approx(expected.mean().item(), abs=1e-6)


def test_another_loss_of_trls_is_noticed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import trl

    plain, ours = both("DPO", tiny_model, tmp_path, {"p_chosen": P})
    del plain
    real = trl.DPOTrainer.compute_loss
    monkeypatch.setattr(
        trl.DPOTrainer, "compute_loss", lambda self, *given: real(self, *given) * 1.01
    )
    with pytest.raises(ConfigError, match="computes the loss of DPO in another way"):
        ours.compute_loss(ours.model, first_batch(ours))
    check_same("x", torch.tensor(1.0), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"loss_type": ["ipo"]}, "sigmoid loss"),
        ({"f_divergence_type": "forward_kl"}, "sigmoid loss"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
    ],
)
def test_soft_labels_go_with_the_plain_loss_only(
    more: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    rows = make_pairs(4, p_chosen=P)
    settings = DPOSettings(**SMALL, labels="soft", trl=more)
    with pytest.raises(ConfigError, match=message):
        train_dpo(tiny_model, rows, tmp_path / "run", settings, home=home)


def test_labels_of_one_half_leave_the_model_where_it_was(
    tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    rows = make_pairs(8, p_chosen=[0.5] * 8)
    settings = DPOSettings(**SMALL, labels="soft")
    summary = train_dpo(tiny_model, rows, tmp_path / "run", settings, home=home)
    assert summary["loss_last"] == pytest.approx(0.6931, abs=1e-3)
    hard = train_dpo(tiny_model, rows, tmp_path / "hard", DPOSettings(**SMALL), home=home)
    assert hard["loss_last"] < 0.6


def test_weights_alone_make_hard_labels_count_differently(
    tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    rows = make_pairs(4, p_chosen=P, weight=[1.0, 0.0, 0.0, 0.0])
    digests = set()
    for weights in ("none", "column"):
        settings = DPOSettings(**SMALL, weights=weights, max_steps=1)
        train_dpo(tiny_model, rows, tmp_path / weights, settings, home=home)
        digests.add(weights_digest(tmp_path / weights / "model"))
    settings = RewardSettings(**SMALL, weights="margin", max_steps=1)
    train_reward(tiny_model, rows, tmp_path / "margin", settings, home=home)
    assert len(digests) == 2


def test_columns_that_are_not_there_are_named() -> None:
    rows = make_pairs(4, p_chosen=[0.9, None, 0.8, 0.7])
    with pytest.raises(SpecError, match="row 2 has none"):
        labeled_rows(rows, "soft", "none")
    with pytest.raises(SpecError, match="no such column") as caught:
        labeled_rows(rows, "hard", "column")
    assert caught.value.field == "weight"
    with pytest.raises(DataError, match="all rows have the weight 0"):
        labeled_rows(make_pairs(2, weight=[0.0, 0.0]), "hard", "column")


def test_weights_have_the_mean_one_and_margins_come_from_labels() -> None:
    rows = make_pairs(2, p_chosen=[1.0, 0.75])
    found = labeled_rows(rows, "soft", "margin", margins=True)
    assert found["margin"][:] == [1.0, 0.5]
    assert found["weight"][:] == pytest.approx([4 / 3, 2 / 3])
    assert labeled_rows(rows, "hard", "none").column_names == ["prompt", "chosen", "rejected"]
