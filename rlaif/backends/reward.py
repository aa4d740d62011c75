"""A sequence classifier in this process as judge: the address `reward/PATH` or `reward/PATH#LABEL`.

    backend = open_reward("checkpoints/rm", BackendOptions())
    done = await backend.complete(Request((user, assistant), task="reward"))
    json.loads(done.text)                     # {"logits": [1.31], "reward": 1.31}

Any checkpoint that transformers loads as `AutoModelForSequenceClassification` will do: a reward
model with one output, as TRL and most published ones have it; a classifier of good and bad, whose
reward is the log-odds of good; one with more outputs, of which the address names the one that
counts. Nothing is ever fetched from a model hub, and no code of a checkpoint is run.

A conversation is written in the tokenizer's chat template, or, where there is none, as the pair of
texts (prompt, response) that encoders such as DeBERTa were trained on. It is never cut: what does
not fit is an error. Ranking networks that read two responses at once, such as PairRM, are not
sequence classifiers and are not taken.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from rlaif.backends.base import BackendOptions
from rlaif.backends.local import (
    check_checkpoint,
    checkpoint_folder,
    quiet_transformers,
    require_local_extra,
    weights_digest,
)
from rlaif.canonical import canonical_json
from rlaif.errors import BackendError, ConfigError, suggestion
from rlaif.types import Completion, Message, Request, Usage

_BATCH_TOKENS = 8192
"""Padded tokens of a batch."""
_BATCH_ROWS = 64
_GOOD = frozenset({"good", "chosen", "accepted", "positive", "better", "helpful", "yes", "label_1"})
_BAD = frozenset({"bad", "rejected", "negative", "worse", "unhelpful", "no", "label_0"})


def open_reward(name: str, options: BackendOptions) -> RewardBackend:
    """The backend of `reward/NAME`: a checkpoint folder, and the label that counts after a `#`.

    Raises:
        ConfigError: a package is missing, there is no such checkpoint, it is no sequence
            classifier, or it is not clear which of its labels is the reward.
    """
    del options
    require_local_extra()
    path, _, label = (name, "", "") if Path(name).is_dir() else name.partition("#")
    folder = checkpoint_folder(Path(path).expanduser())
    check_checkpoint(folder)
    return RewardBackend(f"reward/{name}", folder, label)


class RewardBackend:
    """Rewards of the last message of conversations.

    Rewards are computed in batches of like length. What else is in a batch changes them by
    rounding alone, in the sixth digit or so.

    Args:
        model: The address that names it.
        folder: A checkpoint folder: config, safetensors, tokenizer.
        label: Name of the output that is the reward; empty where there is no choice.

    Raises:
        ConfigError: the checkpoint is no sequence classifier, or it is not clear which of its
            labels is the reward.
    """

    def __init__(self, model: str, folder: Path, label: str = "") -> None:
        self._model = model
        self._folder = folder
        self._head = Head.of(_config(folder), label)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rlaif-reward")
        self._waiting: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._drain: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        return self._model

    @cached_property
    def identity(self) -> str:
        return f"reward/{weights_digest(self._folder)[:32]}#{self._head.index}"

    @cached_property
    def _loaded(self) -> _Loaded:
        return _Loaded(self._folder, self._head)

    async def complete(self, request: Request) -> Completion:
        """The reward of the last message, in a batch with whatever else is waiting.

        Its text is JSON: `reward`, in nats, and all `logits`.

        Raises:
            BackendError: the conversation does not fit the model, or the model failed.
            ConfigError: the request wants a reply.
        """
        if request.task != "reward":
            raise ConfigError(f"{self._model} scores responses and writes none")
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # let the callers of this turn of the loop join the first batch
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked, self._waiting = self._waiting, []
            requests = [request for request, _ in asked]
            try:
                answers = await loop.run_in_executor(self._pool, self._answer, requests)
            except Exception as error:
                known = isinstance(error, BackendError)
                failure = error if known else BackendError(repr(error), fatal=True)
                answers = [failure] * len(asked)
            for (_, future), answer in zip(asked, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Completion):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)

    def _answer(self, requests: list[Request]) -> list[Completion | Exception]:
        started = time.perf_counter()
        loaded = self._loaded
        rows = [loaded.encode(request.messages) for request in requests]
        answers: dict[int, Completion | Exception] = {}
        fitting: list[int] = []
        for place, row in enumerate(rows):
            if (size := len(row["input_ids"])) > loaded.window:
                words = f"{size} tokens do not fit the model's window of {loaded.window}"
                answers[place] = BackendError(words, kind="request")
            else:
                fitting.append(place)
        for batch in batches([len(row["input_ids"]) for row in rows], fitting):
            for place, logits in zip(batch, loaded.logits([rows[p] for p in batch]), strict=True):
                answers[place] = self._completion(logits, len(rows[place]["input_ids"]), started)
        return [answers[place] for place in range(len(requests))]

    def _completion(
        self, logits: list[float], tokens: int, started: float
    ) -> Completion | Exception:
        if not all(map(math.isfinite, logits)):
            return BackendError(f"{self._model} gave {logits}", kind="bad_reply")
        text = canonical_json({"reward": self._head.reward(logits), "logits": logits})
        spent = time.perf_counter() - started
        return Completion(text, model=self._model, usage=Usage(input=tokens), latency_s=spent)

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Head:
    """Which of a classifier's outputs is the reward.

    Args:
        index: Its place.
        size: How many outputs there are.
        odds: Whether outputs compete: the reward is then the log-odds of this one against the rest.
    """

    def __init__(self, index: int, size: int, *, odds: bool) -> None:
        self.index = index
        self.size = size
        self.odds = odds

    @staticmethod
    def of(config: dict[str, Any], label: str = "") -> Head:
        """The head that a checkpoint's config describes.

        Raises:
            ConfigError: there is no such label, or no label was given and it is not clear which.
        """
        names = {int(k): str(v) for k, v in (config.get("id2label") or {}).items()}
        size = len(names) or int(config.get("num_labels") or 2)
        labels = [names.get(i, f"LABEL_{i}") for i in range(size)]
        odds = size > 1 and (size == 2 or config.get("problem_type") == _ONE_OF_MANY)
        if label:
            if label not in labels:
                near = suggestion(label, labels)
                raise ConfigError(f"the classifier has no label {label!r}; {near}")
            return Head(labels.index(label), size, odds=odds)
        lower = [name.lower() for name in labels]
        if size == 1:
            return Head(0, 1, odds=False)
        if size == 2 and lower[1] in _GOOD and lower[0] in _BAD:
            return Head(1, 2, odds=True)
        if size == 2 and lower[0] in _GOOD and lower[1] in _BAD:
            return Head(0, 2, odds=True)
        raise ConfigError(
            f"the classifier has the labels {', '.join(labels)}; say which one is the reward: "
            f"reward/PATH#{labels[-1]}"
        )

    def reward(self, logits: Sequence[float]) -> float:
        """The reward, in nats where outputs compete, else as the model gives it."""
        own = logits[self.index]
        if not self.odds:
            return own
        others = [x for place, x in enumerate(logits) if place != self.index]
        most = max(others)
        return own - most - math.log(sum(math.exp(x - most) for x in others))


_ONE_OF_MANY = "single_label_classification"


def batches(sizes: Sequence[int], places: Sequence[int]) -> list[list[int]]:
    """`places` in groups of like size, none with more padded tokens than a batch may have."""
    groups: list[list[int]] = []
    for place in sorted(places, key=lambda p: sizes[p], reverse=True):
        # the first of a group is its longest, which all others are padded to
        full = not groups or (len(groups[-1]) + 1) * sizes[groups[-1][0]] > _BATCH_TOKENS
        if full or len(groups[-1]) >= _BATCH_ROWS:
            groups.append([])
        groups[-1].append(place)
    return groups


def _config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.

    Raises:
        ConfigError: it is not that of a sequence classifier.
    """
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder}/config.json is not JSON: {error}") from error
    kinds = config.get("architectures") or [] if isinstance(config, dict) else []
    if not any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        what = ", ".join(map(str, kinds)) or "a checkpoint that does not say what it is"
        raise ConfigError(f"{folder} is no sequence classifier but {what}")
    found: dict[str, Any] = config
    return found


class _Loaded:
    """A classifier and its tokenizer in memory."""

    def __init__(self, folder: Path, head: Head) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        quiet_transformers()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.network, told = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise BackendError(f"cannot load {folder}: {error}", fatal=True) from error
        if missing := sorted(told["missing_keys"]):
            # a head that was made up would give rewards that mean nothing
            words = f"{folder} has no weights for {', '.join(missing)}: it was never trained"
            raise BackendError(words, fatal=True, kind="request")
        if self.network.config.num_labels != head.size:
            raise BackendError(f"{folder} has {self.network.config.num_labels} outputs", fatal=True)
        self.network.to(device).eval()
        self.window = int(getattr(self.network.config, "max_position_embeddings", 0)) or 1 << 30
        self._pad = self.network.config.pad_token_id

    def encode(self, messages: Sequence[Message]) -> dict[str, list[int]]:
        """A conversation as the classifier reads it; a control token spelled out is broken up."""
        plain = [(m.role, self._plain(m.content)) for m in messages]
        if self.tokenizer.chat_template:
            turns = [{"role": role, "content": text} for role, text in plain]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False)
            return dict(self.tokenizer(text, add_special_tokens=False))
        *before, (_, response) = plain
        named = [f"{role}: {text}" for role, text in before]
        prompt = before[0][1] if len(before) == 1 else "\n\n".join(named)
        return dict(self.tokenizer(prompt, response))

    def _plain(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate has no tokens
        for token in sorted(set(self.tokenizer.all_special_tokens), key=len, reverse=True):
            text = text.replace(token, token[:1] + " " + token[1:])
        return text

    def logits(self, rows: Sequence[dict[str, list[int]]]) -> list[list[float]]:
        """All outputs for each row, which are padded on the right to the longest."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        pad = self._pad
        if pad is None:
            # decoders read the last token that is not padding: one that no row has is unmistakable
            used = {token for row in rows for token in row["input_ids"]}
            pad = next(i for i in range(len(used) + 1) if i not in used)
            self.network.config.pad_token_id = pad
        fill = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
        tensors = {
            name: torch.tensor(
                [row[name] + [fill[name]] * (longest - len(row[name])) for row in rows],
                device=self.network.device,
            )
            for name in rows[0]
            if name in fill
        }
        with torch.inference_mode():
            found: list[list[float]] = self.network(**tensors).logits.float().cpu().tolist()
        return found
