"""Tiny random models with a byte tokenizer, built in code, in place of any checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def build_tiny(folder: Path, *, seed: int = 0, window: int = 512, sharpness: float = 1.0) -> Path:
    """Write a checkpoint with 2 layers and about 50,000 parameters to `folder`.

    Args:
        folder: Where to.
        seed: Of the weights.
        window: Most positions.
        sharpness: Factor on the output weights; more makes the model surer of its next token.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(**_sizes(tokenizer, window), tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(50 * sharpness)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tiny_classifier(
    folder: Path, *, seed: int = 0, labels: tuple[str, ...] = ("reward",), encoder: bool = False
) -> Path:
    """Write a sequence classifier to `folder`: a Llama, or a BERT without a chat template.

    Args:
        folder: Where to.
        seed: Of the weights.
        labels: Names of its outputs.
        encoder: Whether it is the BERT, which reads pairs of texts.
    """
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    tokenizer = _byte_tokenizer(pairs=encoder)
    torch.manual_seed(seed)
    sizes = {**_sizes(tokenizer, 512), "id2label": dict(enumerate(labels))}
    if encoder:
        model = BertForSequenceClassification(BertConfig(**sizes))
    else:
        model = LlamaForSequenceClassification(LlamaConfig(**sizes))
    with torch.no_grad():
        # random networks give nearly the same for everything
        for weights in model.parameters():
            weights.mul_(4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _byte_tokenizer(*, pairs: bool = False) -> Any:
    """One token a byte; with `pairs`, texts in pairs between special tokens and no template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if not pairs:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core,
            eos_token="<|end|>",
            pad_token="<|pad|>",
            additional_special_tokens=["<|start|>"],
        )
        tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer
    core.add_special_tokens(["<cls>", "<sep>", "<pad>"])
    core.post_processor = processors.TemplateProcessing(
        single="<cls> $A <sep>",
        pair="<cls> $A <sep> $B:1 <sep>:1",
        special_tokens=[(name, core.token_to_id(name)) for name in ("<cls>", "<sep>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        cls_token="<cls>",
        sep_token="<sep>",
        pad_token="<pad>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _sizes(tokenizer: Any, window: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": window,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
