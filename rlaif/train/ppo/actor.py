"""The policy and its value function in one module, and what both say of given responses.

The value of a state is read from the policy's own last hidden state by one linear layer, or by a
separate model of the same vocabulary (Ziegler et al. 2019, arXiv 1909.08593, section 2.1, shares
the trunk; Huang et al. 2024, arXiv 2403.17031, detail 6, keeps two models).

Shapes: B episodes, P prompt columns padded on the left, T response columns padded on the right,
H hidden units, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import autocast, nn

from rlaif.train.ppo.kernel import spoken

if TYPE_CHECKING:
    from torch import Tensor


class Said(NamedTuple):
    """What a policy and its value function say of the tokens of responses. Each (B, T)."""

    logprobs: Tensor
    """Nats, under the sampling temperature."""
    values: Tensor
    """The value of the state before each token; zeros where no value was asked for."""
    entropy: Tensor
    """Nats, of the next-token distribution; zeros where it was not asked for."""


class ActorCritic(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A causal language model with a value function.

    Args:
        policy: A causal language model of transformers, or one that peft wrapped.
        value_model: A trunk with its own weights; None reads values off the policy's hidden states.
        temperature: What the policy's logits are divided by, in sampling and here alike (detail 8
            of 2403.17031).

        value_gradient: Whether the error of values read off the policy's hidden states moves the
            policy too. It teaches the trunk to tell values, at the policy's cost.

    Raises:
        TypeError: a model has no output embeddings to read hidden states before.
    """

    def __init__(
        self,
        policy: Any,
        value_model: Any = None,
        *,
        temperature: float = 1.0,
        value_gradient: bool = True,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.value_model = value_model
        self.temperature = temperature
        self._value_gradient = value_gradient
        trunk = value_model if value_model is not None else policy
        hidden = trunk.config.get_text_config().hidden_size
        # float32 whatever the trunk is: returns are sums of many small numbers
        self.value_head = nn.Linear(hidden, 1, device=next(trunk.parameters()).device)
        # the value of every state starts at 0: no noise in the first advantages
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        length: int,
        *,
        with_entropy: bool = True,
        with_values: bool = True,
    ) -> Said:
        """What is said of the last `length` columns of `tokens`, given all before each.

        Args:
            tokens: Shape (B, P + T).
            mask: Shape (B, P + T), 1 on prompt and response, 0 on padding.
            length: T.
            with_entropy: False spares the entropy, and gives zeros.
            with_values: False spares the value function, and gives zeros.
        """
        logits, hidden = read_last(self.policy, tokens, mask, length)
        logprobs, spread = spoken(
            logits, tokens[:, -length:], self.temperature, with_entropy=with_entropy
        )
        if not with_values:
            return Said(logprobs, logprobs.new_zeros(logprobs.shape), spread)
        if self.value_model is not None:
            hidden = read_trunk(self.value_model, tokens, mask, length)
        elif not self._value_gradient:
            hidden = hidden.detach()
        with autocast(hidden.device.type, enabled=False):
            values = self.value_head(hidden.float()).squeeze(-1)
        return Said(logprobs, values, spread)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The policy without its adapters inside: what it was before training.

        Raises:
            TypeError: the policy has no adapters.
        """
        if not hasattr(self.policy, "disable_adapter"):
            raise TypeError("a policy without adapters needs a reference model")
        with self.policy.disable_adapter():
            yield


def read_last(model: Any, tokens: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Logits of the last `length` tokens, and the hidden states they were made from.

    The output head is applied to no other column; with prompts longer than responses and a large
    vocabulary that is most of its work.

    Returns:
        Shapes (B, length, V) and (B, length, H).
    """
    caught: list[Tensor] = []
    head = model.get_output_embeddings()
    if head is None:
        raise TypeError(f"{type(model).__name__} has no output embeddings")
    hook = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        made = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions(mask),
            logits_to_keep=length + 1,
            use_cache=False,
        )
    finally:
        hook.remove()
    return made.logits[:, :-1], caught[0][:, :-1]


def read_trunk(model: Any, tokens: Tensor, mask: Tensor, length: int) -> Tensor:
    """Hidden states of a trunk before the last `length` tokens, (B, length, H)."""
    trunk = model.base_model if hasattr(model, "base_model") else model
    made = trunk(
        input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False
    )
    return made.last_hidden_state[:, -length - 1 : -1]


def positions(mask: Tensor) -> Tensor:
    """Places of tokens in their own text, (B, P + T): padding on the left does not count."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def without_dropout(module: nn.Module) -> None:
    """Let every dropout layer of `module` pass all through.

    The policy must say the same of a response twice, or the first ratio is not 1 (detail 7 of
    2403.17031).
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(rate := getattr(part, "attention_dropout", None), float) and rate:
            part.attention_dropout = 0.0
