"""TRL's DPO and reward trainers with a label and a weight for each pair.

TRL's own loss is computed first, with all that TRL logs; what the network gave meanwhile is looked
at, and the difference between our loss and the plain one is added. So nothing of TRL's is copied,
and its further terms stay as they are. What is leaned on: `compute_loss(model, inputs)` calls
`model` once, and the outputs are `log_probs` of the labels (DPO) or `logits` (reward model), the
chosen half of the batch first. The first batch of each run is checked against TRL's own number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlaif.errors import ConfigError
from rlaif.train.losses import Form, soft_dpo_loss, soft_reward_loss

LABELS = ("p_chosen", "margin", "weight")


def labeled(collate: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """A collator that brings the labels of a batch beside what `collate` makes."""

    def made(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        batch = collate(examples)
        for name in LABELS:
            if name in examples[0]:
                batch[name] = torch.tensor([float(e[name]) for e in examples])
        return batch

    return made


def soft_dpo_trainer(form: Form) -> Any:
    """TRL's `DPOTrainer` with `soft_dpo_loss` over the rows' `p_chosen` and `weight`."""
    from trl import DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class SoftDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is untyped here
        def __init__(self, *, args: Any, processing_class: Any, **given: Any) -> None:
            if list(args.loss_type) != ["sigmoid"] or args.f_divergence_type != "reverse_kl":
                raise ConfigError("soft labels go with TRL's sigmoid loss and reverse KL only")
            if args.ld_alpha is not None or args.use_weighting:
                raise ConfigError("soft labels do not go with ld_alpha or use_weighting")
            args.remove_unused_columns = False  # the labels are columns
            if processing_class.pad_token is None:
                processing_class.pad_token = processing_class.eos_token
            collate = DataCollatorForPreference(
                pad_token_id=processing_class.pad_token_id, max_length=args.max_length
            )
            self._checked = False
            super().__init__(
                args=args,
                processing_class=processing_class,
                data_collator=labeled(collate),
                **given,
            )

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            return super().compute_ref_log_probs(model, _parted(inputs)[0])

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            inputs, label = _parted(inputs)
            seen = _Seen(model)
            plain = super().compute_loss(seen, inputs)
            delta = dpo_delta(seen.outputs, inputs)
            hard = soft_dpo_loss(delta, delta.new_ones(()), self.beta).mean()
            if not self._checked and not self.aux_loss_enabled:
                check_same("DPO", plain, hard)
                self._checked = True
            p, weight = label["p_chosen"], label.get("weight", 1.0)
            soft = soft_dpo_loss(delta, p, self.beta, form, weight).mean()
            loss = plain - hard + soft
            return (loss, seen.outputs) if return_outputs else loss

    return SoftDPOTrainer


def dpo_delta(outputs: Any, inputs: Mapping[str, Any]) -> Any:
    """The difference of log ratios of each pair, nats, of a batch with the chosen half first.

    Args:
        outputs: With `log_probs` of shape (2 n, length - 1), 0 where there is no response.
        inputs: The batch, with the reference's `ref_chosen_logps` and `ref_rejected_logps`.
    """
    length = inputs["completion_mask"].shape[1] - 1
    chosen, rejected = outputs.log_probs[:, -length:].sum(dim=1).chunk(2)
    return (chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"])


def soft_reward_trainer(margin_scale: float) -> Any:
    """TRL's `RewardTrainer` with `soft_reward_loss` over `p_chosen`, `margin` and `weight`.

    Args:
        margin_scale: Units of reward for a margin of 1; the margin of a row is 2 p_chosen - 1.
    """
    from trl import RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    class SoftRewardTrainer(RewardTrainer):  # type: ignore[misc]  # TRL is untyped here
        def __init__(self, *, args: Any, processing_class: Any, **given: Any) -> None:
            args.remove_unused_columns = False
            if processing_class.pad_token is None:
                processing_class.pad_token = processing_class.eos_token
            collate = DataCollatorForPreference(pad_token_id=processing_class.pad_token_id)
            self._checked = False
            super().__init__(
                args=args,
                processing_class=processing_class,
                data_collator=labeled(collate),
                **given,
            )

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            inputs, label = _parted(inputs)
            seen = _Seen(model)
            plain = super().compute_loss(seen, inputs)
            chosen, rejected = seen.outputs.logits.squeeze(-1).chunk(2)
            d = chosen - rejected
            hard = soft_reward_loss(d, d.new_ones(())).mean()
            if not self._checked and not self.args.center_rewards_coefficient:
                check_same("the reward model", plain, hard)
                self._checked = True
            margin = margin_scale * label.get("margin", d.new_zeros(()))
            p, weight = label.get("p_chosen", d.new_ones(())), label.get("weight", 1.0)
            loss = plain - hard + soft_reward_loss(d, p, margin, weight).mean()
            return (loss, seen.outputs) if return_outputs else loss

    return SoftRewardTrainer


class _Seen:
    """A network that can be asked for what it gave last."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.outputs: Any = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.outputs = self._network(*given, **named)
        return self.outputs


def _parted(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What TRL takes of a batch, and the labels."""
    rest = {k: v for k, v in inputs.items() if k not in LABELS}
    return rest, {k: inputs[k] for k in LABELS if k in inputs}


def check_same(what: str, theirs: Any, ours: Any) -> None:
    """Raise `ConfigError` if TRL's plain loss is another one than ours."""
    off = abs(float(theirs.detach()) - float(ours.detach()))
    if not off <= 1e-4 * max(1.0, abs(float(theirs.detach()))):
        import trl

        raise ConfigError(
            f"TRL {trl.__version__} computes the loss of {what} in another way than known here "
            f"(off by {off:.2g}): soft labels cannot be used with it, hard ones can"
        )
