"""A whole training on a tiny policy: it learns, can be stopped, and goes on to the same end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.errors import ConfigError, DataError, StoreError
from tests.fixed_word import train
from tests.unit.train.ppo.conftest import PROMPTS, Build, rows_of, share_of_letters, weights_of


def test_before_the_first_step_the_ratio_is_one_and_the_kl_zero(build: Build) -> None:
    trainer = build(total_episodes=8)
    figures = trainer.train()["last"]
    assert figures["first_ratio"] == 1.0
    assert figures["kl"] == 0.0
    assert figures["kl_k3"] == 0.0
    assert figures["ratio"] != 1.0  # the last epoch is another matter


def test_it_writes_its_curves_and_samples(build: Build, tmp_path: Path) -> None:
    before = weights_of(trainer := build(logged_samples=2)).clone()
    summary = trainer.train()
    assert not torch.equal(weights_of(trainer), before)
    logged = rows_of(tmp_path / "run" / "training.jsonl")
    assert [row["step"] for row in logged] == [1, 2, 3]
    assert [row["episodes"] for row in logged] == [8, 16, 24]
    assert logged[-1] == summary["last"]
    for name in ("reward", "loss", "kl", "kl_k3", "entropy", "length", "length_p95", "coverage"):
        assert isinstance(logged[0][name], float), name
    samples = rows_of(tmp_path / "run" / "samples.jsonl")
    assert [row["step"] for row in samples] == [1, 1, 2, 2, 3, 3]
    assert samples[0].keys() == {"step", "prompt", "completion", "reward"}
    assert summary["seconds"].keys() == {"generation", "reading", "reward", "learning"}
    assert summary["episodes"] == 24
    assert len(trainer.samples) == 8


@pytest.mark.parametrize("seed", range(5))
def test_a_bandit_of_letters_is_solved(build: Build, seed: int) -> None:
    """Every token is an arm, one pays: known optimum 1, in 960 episodes."""
    trainer = build(
        lambda completions, **_: [text.count("a") / 3 for text in completions],
        PROMPTS[:1],
        seed=seed,
        stop_at_eos=False,
        total_episodes=960,
        batch_size=48,
        micro_batch_size=24,
        rollout_batch_size=48,
        epochs=4,
        response_length=3,
        learning_rate=1.5e-2,
        kl_coefficient=0.0,
    )
    assert trainer.train()["last"]["reward"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_fixed_word_is_learned(flat_model: Path, tmp_path: Path, seed: int) -> None:
    """`ok`, and then the end: known optimum 1, in 16,384 episodes."""
    assert train(flat_model, tmp_path, seed)["eval_last"]["eval_reward"] > 0.95


def test_a_run_that_was_stopped_ends_like_one_that_was_not(build: Build, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"total_episodes": 32, "kl_target": 0.5, "epochs": 3}
    whole = build(output_dir=tmp_path / "whole", **settings)
    expected = whole.train()["last"]

    first = build(save_updates=2, **settings, callbacks=[lambda figures: figures["step"] == 3])
    told = first.train()
    assert told["stopped"]
    # a process that was killed had begun to write down an update that no checkpoint has
    log = tmp_path / "run" / "training.jsonl"
    with log.open("a") as file:
        file.write('{"step":4,"reward":0.1}\n{"step":5,"rew')
    second = build(**settings)
    found = second.train()
    assert torch.equal(weights_of(second), weights_of(whole))
    assert second.kl.coefficient == whole.kl.coefficient != 0.05
    timeless = {name: value for name, value in expected.items() if name != "wall_s"}
    assert {k: v for k, v in found["last"].items() if k != "wall_s"} == timeless
    assert [row["step"] for row in rows_of(log)] == [1, 2, 3, 4]
    assert not found["stopped"]


def test_a_run_that_is_done_is_not_done_again(build: Build) -> None:
    done = build()
    done.train()
    again = build()
    summary = again.train()
    assert summary["updates"] == 3
    assert summary["last"] == {}
    assert torch.equal(weights_of(again), weights_of(done))
    anew = build()
    assert anew.train(resume_from_checkpoint=False)["last"]["step"] == 3


def test_another_run_is_not_gone_on_with(build: Build) -> None:
    build().train()
    with pytest.raises(ConfigError, match="clip, prompts, rewards differ"):
        build(lambda completions: [0.0] * len(completions), PROMPTS[:2], clip=0.1).train()


def test_ctrl_c_ends_the_update_and_saves(build: Build, tmp_path: Path) -> None:
    def reward(completions: list[str], **_: Any) -> list[float | None]:
        if trainer.update == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return share_of_letters(completions)

    whole = build(output_dir=tmp_path / "whole")
    whole.train()
    reward.__name__ = share_of_letters.__name__
    trainer = build(reward)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.update == 2
    assert signal.getsignal(signal.SIGINT) is before
    rest = build()
    rest.train()
    assert torch.equal(weights_of(rest), weights_of(whole))


def test_a_second_ctrl_c_stops_at_once(build: Build) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def reward(completions: list[str], **_: Any) -> list[float | None]:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.2)  # two at once would count as one
        signal.pthread_kill(main, signal.SIGINT)
        return share_of_letters(completions)

    trainer = build(reward)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.update == 0


def test_a_full_disk_leaves_the_checkpoint_before(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, saved = torch.save, []

    def save(*given: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            Path(given[1]).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        keep(*given)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(StoreError, match=r"update-2: cannot write the checkpoint.*No space"):
        build(save_updates=1).train()
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["update-1"]
    rest, whole = build(), build(output_dir=tmp_path / "whole")
    rest.train()
    whole.train()
    assert torch.equal(weights_of(rest), weights_of(whole))


def test_a_reward_that_is_not_a_number_names_its_function(build: Build) -> None:
    def broken(completions: list[str], **_: Any) -> list[float]:
        return [1.0, float("nan")] * (len(completions) // 2)

    with pytest.raises(DataError, match="broken gave nan for response 1"):
        build(broken).train()


def test_equal_rewards_do_not_spoil_the_weights(build: Build) -> None:
    trainer = build(lambda completions: [0.5] * len(completions), whiten_rewards=True)
    figures = trainer.train()["last"]
    assert figures["reward"] == 0.5
    assert figures["reward_sd"] == 0.0
    assert torch.isfinite(weights_of(trainer)).all()


def test_where_all_earn_the_same_the_policy_rests(build: Build, tmp_path: Path) -> None:
    """Else what is left, the errors of the value function, would count for as much as rewards."""

    def moved(memory: float) -> float:
        batches: list[Any] = []

        def reward(completions: list[str], **_: Any) -> list[float | None]:
            batches.append(completions)
            return share_of_letters(completions) if len(batches) < 4 else [0.5] * len(completions)

        seen: list[float] = []
        build(
            reward,
            output_dir=tmp_path / str(memory),
            total_episodes=512,
            batch_size=32,
            micro_batch_size=32,
            rollout_batch_size=32,
            learning_rate=1e-2,
            kl_coefficient=0.0,
            advantage_memory=memory,
            callbacks=[lambda figures: seen.append(figures["policy_kl"])],
        ).train()
        return sum(seen[4:])

    assert moved(0.99) < 0.8 * moved(0.0)


def test_episodes_without_a_reward_teach_nothing(build: Build, tmp_path: Path) -> None:
    """What the masked ones would have been rewarded with does not matter."""

    def masking(completions: list[str], **_: Any) -> list[float | None]:
        return [None if i % 3 == 0 else float(i) for i in range(len(completions))]

    class Masking:
        """The same, by an object, beside a function whose rewards of those are wild."""

        __name__ = "masking"

        async def __call__(self, completions: list[str], **_: Any) -> list[float | None]:
            return masking(completions)

    def wild(completions: list[str], **_: Any) -> list[float]:
        return [1e6 if i % 3 == 0 else 0.0 for i in range(len(completions))]

    one, other = build(masking), build([Masking(), wild], output_dir=tmp_path / "other")
    figures = one.train()["last"]
    other.train()
    assert figures["coverage"] == pytest.approx(5 / 8)
    assert figures["reward"] == pytest.approx((1 + 2 + 4 + 5 + 7) / 5)
    assert torch.equal(weights_of(one), weights_of(other))


def test_updates_without_any_reward_are_skipped_and_then_given_up(build: Build) -> None:
    trainer = build(lambda completions: [None] * len(completions), unrewarded_updates=3)
    before = weights_of(trainer).clone()
    with pytest.raises(DataError, match="3 updates in a row, up to update 3"):
        trainer.train()
    assert torch.equal(weights_of(trainer), before)
    seldom = build(
        lambda completions: [None if len(seen) % 2 else 0.5 for _ in completions],
        callbacks=[lambda figures: seen.append(figures["reward"])],
        output_dir=trainer.args.output_dir / "seldom",
    )
    seen: list[Any] = []
    seldom.train()
    assert seen == [0.5, None, 0.5]


def test_a_gradient_that_is_not_finite_ends_the_training(build: Build) -> None:
    trainer = build(lambda completions: [1e38] * len(completions), whiten_advantages=False)
    before = weights_of(trainer).clone()
    with pytest.raises(DataError, match="gradient is not finite"):
        trainer.train()
    assert torch.equal(weights_of(trainer), before)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_move_and_the_rest_stays(build: Build, tmp_path: Path) -> None:
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    def lora() -> LoraConfig:
        return LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5)

    settings: dict[str, Any] = {"learning_rate": 1e-2}
    trainer = build(peft_config=lora(), **settings)
    base = trainer.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer.weight
    before, moving = base.clone(), weights_of(trainer).clone()
    assert trainer.reference is None
    figures = trainer.train()["last"]
    assert figures["kl"] != 0.0
    assert torch.equal(base, before)
    assert not torch.equal(weights_of(trainer), moving)
    same = build(peft_config=lora(), output_dir=tmp_path / "same", **settings)
    same.train()
    assert torch.equal(weights_of(same), weights_of(trainer))  # adapters begin the same
    merged = tmp_path / "merged"
    trainer.save_model(merged)
    plain = AutoModelForCausalLM.from_pretrained(merged)
    assert not torch.equal(plain.model.layers[0].self_attn.q_proj.weight, before)
    assert "ppo" in (merged / "README.md").read_text()
    with pytest.raises(ConfigError, match="adapters already"):
        type(trainer)(
            same.model,
            share_of_letters,
            same.args,
            PROMPTS,
            processing_class=same.tokenizer,
            peft_config=lora(),
        )


def test_a_value_model_of_its_own_learns_too(build: Build, flat_model: Path) -> None:
    from transformers import AutoModel

    trunk = AutoModel.from_pretrained(flat_model, dtype=torch.float32)
    before = trunk.layers[0].mlp.up_proj.weight.clone()
    # the head begins at zero, so the trunk moves from the second step on
    trainer = build(value_model=trunk)
    trainer.train()
    assert not torch.equal(trunk.layers[0].mlp.up_proj.weight, before)


def test_held_out_prompts_are_scored_and_leave_the_training_alone(
    build: Build, tmp_path: Path
) -> None:
    with_them = build(eval_dataset=PROMPTS * 3, eval_updates=2)
    summary = with_them.train()
    without = build(output_dir=tmp_path / "without")
    without.train()
    assert torch.equal(weights_of(with_them), weights_of(without))
    logged = rows_of(tmp_path / "run" / "training.jsonl")
    assert [row["step"] for row in logged if "eval_reward" in row] == [0, 2, 3]
    assert summary["eval_first"]["eval_kl"] == 0.0
    assert summary["eval_last"]["eval_n"] == 9
    assert summary["eval_last"]["eval_reward"] == logged[-1]["eval_reward"]
    rose = summary["eval_gain"]
    ends = [summary[f"eval_{when}"]["eval_reward"] for when in ("first", "last")]
    assert rose["mean"] == pytest.approx(ends[1] - ends[0])
    assert rose["low"] < rose["mean"] < rose["high"]
    assert rose["n"] == 9
    assert with_them.evaluate() == with_them.evaluate()  # the same chances each time
    again = build(eval_dataset=PROMPTS * 3, eval_updates=2).train()  # of a run that is done
    assert again["eval_first"] == summary["eval_first"]
    assert again["eval_last"] == summary["eval_last"]
    assert again["eval_gain"] == rose
    with pytest.raises(ConfigError, match="no eval_dataset"):
        without.evaluate()


def test_without_a_reference_there_is_no_kl(build: Build) -> None:
    figures = build(kl_coefficient=0.0).train()["last"]
    assert figures["kl"] is None
    assert figures["kl_k3"] is None


def test_epochs_end_early_when_the_policy_moves_too_far(build: Build) -> None:
    settings = {"learning_rate": 1e-2, "epochs": 6, "total_episodes": 8, "mini_batches": 2}

    def steps(**more: Any) -> tuple[int, dict[str, Any]]:
        trainer = build(**settings | more)
        figures = trainer.train(resume_from_checkpoint=False)["last"]
        return {int(state["step"]) for state in trainer.optimizer.state.values()}.pop(), figures

    # before the first step it is the policy that sampled, and before the second no more
    made, figures = steps(kl_stop=1e-9)
    assert (made, figures["epochs"]) == (1, 1)
    assert figures["grad_norm"] > 0
    made, figures = steps(mini_batches=1, kl_stop=1e-9)
    assert (made, figures["epochs"]) == (1, 1)
    assert figures["policy_kl"] == 0.0
    made, figures = steps()
    assert (made, figures["epochs"]) == (12, 6)


def test_mixed_precision_trains(build: Build) -> None:
    trainer = build(bf16=True)
    assert torch.isfinite(torch.tensor(trainer.train()["last"]["loss"]))
    assert weights_of(trainer).dtype is torch.float32


def test_nothing_touches_the_network(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError(f"a connection to {given}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert build(eval_dataset=PROMPTS).train()["updates"] == 3


def test_micro_batches_change_nothing_but_rounding(build: Build, tmp_path: Path) -> None:
    one = build(micro_batch_size=8, total_episodes=8, epochs=1)
    two = build(micro_batch_size=2, total_episodes=8, epochs=1, output_dir=tmp_path / "two")
    one.train()
    two.train()
    torch.testing.assert_close(weights_of(one), weights_of(two), atol=1e-5, rtol=0)


def test_responses_to_the_same_prompt_stand_together(build: Build) -> None:
    trainer = build(responses_per_prompt=4)
    trainer.train()
    prompts = [row["prompt"] for row in trainer.samples]
    assert len(set(prompts[:4])) == len(set(prompts[4:])) == 1


def test_parts_that_do_not_fit_are_refused(build: Build, flat_model: Path, tmp_path: Path) -> None:
    trainer = build()
    kind, args = type(trainer), trainer.args
    with pytest.raises(ConfigError, match="another copy"):
        kind(trainer.model, share_of_letters, args, PROMPTS, ref_model=trainer.model)
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        kind(trainer.model, share_of_letters, args, PROMPTS)
    from_folder = kind(flat_model, share_of_letters, args, PROMPTS)
    assert from_folder.tokenizer.eos_token == "<|end|>"
    trainer.model.requires_grad_(False)
    trainer.train()  # the value head still moves
    shutil.rmtree(tmp_path / "run")
