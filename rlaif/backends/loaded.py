"""A causal language model and its tokenizer in memory: what it answers, on messages.

Replies are sampled in batches. Where one token is asked for, or one of some choices, nothing is
decoded: the probabilities of the next token are read after one prefill, and what several prompts
begin with is read once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.backends import choices
from rlaif.backends.local import check_checkpoint, quiet_transformers, row_seed
from rlaif.errors import BackendError
from rlaif.types import Completion, Message, Request, TokenLogprob, Usage

if TYPE_CHECKING:
    from torch import Tensor

    from rlaif.backends.engine import Generated, Prefix
    from rlaif.backends.prefill import Prefill

_PREFIXES = 4  # kept in memory: enough for the candidates of a prompt, with and without it
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_LEAST_ROWS = 32
"""Rows below which a matrix product takes another way, and rounds in another way."""

Ids = tuple[int, ...]


class LoadedModel:
    """A model and its tokenizer in memory.

    Args:
        folder: A checkpoint folder.
        dtype: `bfloat16` or `float32`.

    Raises:
        BackendError: it cannot be loaded, or has no chat template.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        check_checkpoint(folder)
        quiet_transformers()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.network: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise BackendError(f"cannot load {folder}: {error}", fatal=True) from error
        if not self.tokenizer.chat_template:
            raise BackendError(f"the tokenizer in {folder} has no chat template", fatal=True)
        self.network.to(device).eval()
        self.window = int(getattr(self.network.config, "max_position_embeddings", 0)) or 1 << 30

    @cached_property
    def head(self) -> Any:
        from rlaif.backends.engine import output_head

        return output_head(self.network)

    @cached_property
    def ends(self) -> list[int]:
        """Tokens that end a reply."""
        eos = self.network.generation_config.eos_token_id
        ends = set(eos if isinstance(eos, list) else [eos])
        ends.add(self.tokenizer.eos_token_id)
        return sorted(end for end in ends if end is not None)

    @cached_property
    def _reserved(self) -> list[str]:
        return sorted(set(self.tokenizer.all_special_tokens), key=len, reverse=True)

    def encode(self, messages: Sequence[Message], *, reply_follows: bool) -> list[int]:
        """Token ids of a conversation in the model's chat template.

        A control token spelled out in a message is broken up: text must not open or close turns.
        """
        turns = [{"role": m.role, "content": self._plain(m.content)} for m in messages]
        text = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=reply_follows
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _plain(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate has no tokens
        for token in self._reserved:
            text = text.replace(token, token[:1] + " " + token[1:])
        return text

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.tokenizer.decode([i]) for i in ids]

    def _too_long(self, tokens: int) -> BackendError | None:
        if tokens <= self.window:
            return None
        message = f"{tokens} tokens do not fit the model's window of {self.window}"
        return BackendError(message, kind="request")

    def no_memory(self, request: Request) -> BackendError:
        """What is said of a request that memory does not suffice for."""
        if self.reader is not None:
            self.reader.forget()
        tokens = len(self.encode(request.messages, reply_follows=True))
        message = f"out of memory at {tokens} tokens; the model's window is {self.window}"
        return BackendError(message, kind="request")

    def likelihood(self, request: Request, model: str) -> Completion | BackendError:
        """The log-probability of every token of the last message, given those before it."""
        from rlaif.backends.engine import score_tokens

        started = time.perf_counter()
        *context, last = request.messages
        ids = tuple(self.encode(context, reply_follows=True))
        text = self._plain(last.content)
        answer: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if (error := self._too_long(len(ids) + len(answer))) is not None:
            return error
        logprobs = score_tokens(self.network, self._prefix(ids), answer, head=self.head)
        tokens = tuple(map(TokenLogprob, self._pieces(answer), logprobs))
        usage = Usage(input=len(ids) + len(answer))
        spent = time.perf_counter() - started
        return Completion("", model=model, tokens=tokens, usage=usage, latency_s=spent)

    @cached_property
    def _prefix(self) -> Callable[[tuple[int, ...]], Prefix]:
        """Prefixes as the model read them; candidates of a prompt share theirs."""
        from rlaif.backends.engine import read_prefix

        return lru_cache(_PREFIXES)(lambda ids: read_prefix(self.network, ids))

    @cached_property
    def reader(self) -> Prefill | None:
        """What reads a shared prefix once; `None` where the model's attention forbids that."""
        from rlaif.backends.prefill import Prefill, supported

        return Prefill(self.network) if supported(self.network) else None

    @cached_property
    def _words(self) -> dict[str, Ids]:
        return choices.words_of(self.tokenizer)

    @cached_property
    def _spellings(self) -> Callable[[tuple[str, ...]], choices.Spellings]:
        return lru_cache(64)(lambda said: choices.spellings_of(said, self._words, self.tokenizer))

    def next_words(
        self, requests: Sequence[Request], model: str, stopped: Callable[[], bool]
    ) -> list[Completion | BackendError]:
        """Replies of one token, or of one of the request's choices, without decoding.

        The likeliest choice where the temperature is 0, else one drawn. The first token of the
        reply then is the whole choice, and its `top` has every choice, spellings summed, beside the
        likeliest other tokens.
        """
        started = time.perf_counter()
        prompts = [tuple(self.encode(r.messages, reply_follows=True)) for r in requests]
        spelled = [self._spellings(r.choices) for r in requests]
        behind = [choices.continuations(s) for s in spelled]
        errors = [
            self._too_long(len(prompt) + max((len(way) for way in ways), default=0) + 1)
            for prompt, ways in zip(prompts, behind, strict=True)
        ]
        paths = [
            prompt + way
            for prompt, ways, error in zip(prompts, behind, errors, strict=True)
            if error is None
            for way in ((), *ways)
        ]
        rows = self._next(list(dict.fromkeys(paths)), stopped)
        spent = time.perf_counter() - started
        return [
            error or self._said(request, prompt, ways, rows, model, spent)
            for request, prompt, ways, error in zip(requests, prompts, spelled, errors, strict=True)
        ]

    def _next(self, paths: Sequence[Ids], stopped: Callable[[], bool]) -> dict[Ids, Tensor]:
        """For each path the log-probabilities of all tokens behind it."""
        import torch

        from rlaif.backends.prefill import read_plain

        if not paths:
            return {}
        if self.reader is not None:
            hidden = self.reader.read(paths, stopped)
        else:
            hidden = read_plain(self.network, paths, stopped)
        with torch.inference_mode():
            spare = max(0, _LEAST_ROWS - len(paths))
            padded = torch.nn.functional.pad(hidden, (0, 0, 0, spare))
            logprobs = self.head(padded)[: len(paths)].log_softmax(-1)
        return dict(zip(paths, logprobs, strict=True))

    def _said(
        self,
        request: Request,
        prompt: Ids,
        spellings: choices.Spellings,
        rows: Mapping[Ids, Tensor],
        model: str,
        spent: float,
    ) -> Completion:
        row = rows[prompt]
        if not request.choices:
            return self._one_token(request, prompt, row, model, spent)

        def logprob(behind: Ids, token: int) -> float:
            return float(rows[prompt + behind][token])

        found = choices.choice_logprobs(spellings, logprob)
        said = choices.choose(found, request.sampling, row_seed(request))
        tokens: tuple[TokenLogprob, ...] = ()
        if request.top_logprobs:
            names = {choice.strip() for choice in found}
            others = [e for e in self._likeliest(row, request) if e[0].strip() not in names]
            top = sorted([*found.items(), *others], key=lambda entry: -entry[1])
            tokens = (TokenLogprob(said, found[said], tuple(top)),)
        return Completion(
            said,
            model=model,
            tokens=tokens,
            usage=Usage(input=len(prompt), output=1),
            latency_s=spent,
        )

    def _likeliest(self, row: Tensor, request: Request) -> list[tuple[str, float]]:
        top = row.topk(min(request.top_logprobs, len(row)))
        pieces = self._pieces(top.indices.tolist())
        return list(zip(pieces, top.values.tolist(), strict=True))

    def _one_token(
        self, request: Request, prompt: Ids, row: Tensor, model: str, spent: float
    ) -> Completion:
        from rlaif.backends.engine import Generated, draw, streams

        drawn = request.sampling
        uniform = streams([row_seed(request)], 1, row.device)[:, 0]
        token = int(draw(row[None], uniform, drawn.temperature, drawn.top_p))
        top = row.topk(min(request.top_logprobs, len(row)))
        result = Generated(
            [token],
            [float(row[token])],
            [list(zip(top.indices.tolist(), top.values.tolist(), strict=True))],
            "stop" if token in self.ends else "length",
        )
        return self._completion(result, len(prompt), model, request, spent)

    def replies(
        self, requests: Sequence[Request], model: str, stopped: Callable[[], bool]
    ) -> list[Completion | BackendError]:
        """Sampled replies to requests that share their sampling, as one batch."""
        from rlaif.backends.engine import generate

        started = time.perf_counter()
        prompts = [self.encode(r.messages, reply_follows=True) for r in requests]
        most = requests[0].sampling.max_tokens
        answers: list[Completion | BackendError | None] = [
            self._too_long(len(p) + most) for p in prompts
        ]
        fitting = [i for i, error in enumerate(answers) if error is None]
        drawn = requests[0].sampling
        results = generate(
            self.network,
            pad_id=self.ends[0],
            eos_ids=self.ends,
            prompts=[prompts[i] for i in fitting],
            seeds=[row_seed(requests[i]) for i in fitting],
            temperature=drawn.temperature,
            top_p=drawn.top_p,
            max_new_tokens=most,
            top_logprobs=requests[0].top_logprobs,
            head=self.head,
            stopped=stopped,
        )
        spent = time.perf_counter() - started
        for i, result in zip(fitting, results, strict=True):
            answers[i] = self._completion(result, len(prompts[i]), model, requests[i], spent)
        return [answer for answer in answers if answer is not None]

    def _completion(
        self, result: Generated, prompt_tokens: int, model: str, request: Request, spent: float
    ) -> Completion:
        ids = result.token_ids
        said = ids[:-1] if result.finish_reason == "stop" else ids
        tokens: tuple[TokenLogprob, ...] = ()
        if request.top_logprobs:
            tokens = tuple(
                TokenLogprob(
                    piece, lp, tuple((self.tokenizer.decode([i]), value) for i, value in top)
                )
                for piece, lp, top in zip(
                    self._pieces(said), result.logprobs, result.top_logprobs, strict=False
                )
            )
        return Completion(
            text=self.tokenizer.decode(said, skip_special_tokens=True),
            finish_reason=result.finish_reason,
            model=model,
            tokens=tokens,
            usage=Usage(input=prompt_tokens, output=len(ids)),
            latency_s=spent,
        )


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that memory ran out, as torch says it on any device."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error).lower() for t in _NO_MEMORY)
