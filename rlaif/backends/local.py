"""A model in this process, through transformers: `local/smollm2-135m` or `local/PATH`.

The model loads at the first call that the reply store cannot answer. Replies are sampled in
batches; every row draws from its own seeded stream. Likelihoods are read one sequence at a time,
so they never depend on what else is being scored. Nothing is ever fetched from a model hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, TokenLogprob, Usage

if TYPE_CHECKING:
    from rlaif.backends.engine import Generated, Prefix

_GROUP_SIZE = 48  # rows; on a CPU the tokens per second of a small model stop growing near here
_PREFIXES = 4  # kept in memory: enough for the candidates of a prompt, with and without it


def open_local(name: str, options: BackendOptions) -> LocalBackend:
    """The backend of `local/NAME`: an embedded model by name, or a checkpoint folder by path.

    Raises:
        ConfigError: a package is missing, or there is no such model or checkpoint.
    """
    return LocalBackend(f"local/{name}", resolve_checkpoint(name, options.home), options.home)


def resolve_checkpoint(name: str, home: Path) -> Path:
    """The checkpoint folder that `local/NAME` means: an embedded model's, or the folder NAME.

    Raises:
        ConfigError: a package is missing, or there is no such model or checkpoint.
    """
    from rlaif.backends.embedded import EMBEDDED, ensure_embedded

    require_local_extra()
    if name in EMBEDDED:
        return ensure_embedded(name, home)
    try:
        folder = checkpoint_folder(Path(name).expanduser())
    except OSError as error:  # a name that no file system would take
        raise ConfigError(f"no checkpoint folder {name[:60]}: {error.strerror}") from error
    check_checkpoint(folder, known=EMBEDDED)
    return folder


def require_local_extra(*more: str) -> None:
    """Raise `ConfigError` unless what a model in this process needs, and `more`, is installed."""
    from importlib.util import find_spec

    needed = ("torch", "transformers", "safetensors", *more)
    if missing := [name for name in needed if not find_spec(name)]:
        raise ConfigError(f"a local model needs {', '.join(missing)}: pip install 'rlaif[local]'")


def checkpoint_folder(path: Path) -> Path:
    """`path`, or the `model` inside it where `path` is the folder of a training run."""
    inner = path / "model"
    return inner if (inner / "config.json").exists() else path


def check_checkpoint(folder: Path, known: Sequence[str] | dict[str, Any] = ()) -> None:
    """Raise `ConfigError` unless `folder` holds a model and its tokenizer."""
    from rlaif.errors import suggestion

    if not folder.is_dir():
        hint = suggestion(str(folder), known) if known else "no such folder"
        raise ConfigError(
            f"no checkpoint folder {folder} and no embedded model of that name; {hint}"
        )
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ConfigError(f"{folder} holds a LoRA adapter without its base model: merge it first")
    if not (folder / "config.json").exists():
        raise ConfigError(f"{folder} is not a checkpoint: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"{folder} has no weights: no .safetensors file in it")
    if not any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise ConfigError(
            f"{folder} has no tokenizer: copy tokenizer.json and its config beside the model"
        )


def weights_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files that decide its replies."""
    whole = hashlib.sha256()
    names = (
        "*.safetensors",
        "config.json",
        "tokenizer*",
        "chat_template*",
        "vocab.json",
        "merges.txt",
    )
    for path in sorted({p for pattern in names for p in folder.glob(pattern)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name}\0{content}\0".encode())
    return whole.hexdigest()


@dataclass(slots=True)
class _Waiting:
    request: Request
    future: asyncio.Future[Completion]


class LocalBackend:
    """A causal language model in this process.

    Args:
        model: The address that names it.
        folder: A checkpoint folder: config, safetensors, tokenizer with a chat template.
        home: Where the choice between bfloat16 and float32 is kept, once measured.
    """

    def __init__(self, model: str, folder: Path, home: Path) -> None:
        self._model = model
        self._folder = folder
        self._home = home
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rlaif-local")
        self._waiting: list[_Waiting] = []
        self._drain: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def model(self) -> str:
        return self._model

    @cached_property
    def identity(self) -> str:
        from rlaif.backends.embedded import chosen_dtype

        return f"local/{weights_digest(self._folder)[:32]}@{chosen_dtype(self._home)}"

    @property
    def group_size(self) -> int:
        return _GROUP_SIZE

    @cached_property
    def parameters(self) -> int:
        """How many parameters the model has, read from its file headers without loading it."""
        return count_parameters(self._folder)

    @cached_property
    def _loaded(self) -> _Loaded:
        from rlaif.backends.embedded import chosen_dtype

        return _Loaded(self._folder, chosen_dtype(self._home))

    async def complete(self, request: Request) -> Completion:
        """Answer one request, in a batch with whatever else is waiting.

        Raises:
            BackendError: the request does not fit the model's context, or the model failed.
        """
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, future))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # let the callers of this turn of the loop join the first batch
        while self._waiting:
            batch, self._waiting = self._waiting[:_GROUP_SIZE], self._waiting[_GROUP_SIZE:]
            try:
                answers = await self._run([w.request for w in batch])
            except BaseException as error:
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(
                            error if isinstance(error, BackendError) else BackendError(repr(error))
                        )
                if not isinstance(error, Exception):
                    raise
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.future.done():
                    continue
                if isinstance(answer, BackendError):
                    waiting.future.set_exception(answer)
                else:
                    waiting.future.set_result(answer)

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests` as one batch.

        Raises:
            BackendError: one of them does not fit the model's context, or the model failed.
        """
        answers = await self._run(list(requests))
        for answer in answers:
            if isinstance(answer, BackendError):
                raise answer
        return [answer for answer in answers if isinstance(answer, Completion)]

    async def _run(self, requests: list[Request]) -> list[Completion | BackendError]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._answer, requests)

    def _answer(self, requests: list[Request]) -> list[Completion | BackendError]:
        answers: dict[int, Completion | BackendError] = {}
        batches: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            if request.task == "likelihood":
                answers[place] = self._loaded.likelihood(request, self._model)
            else:
                drawn = request.sampling
                key = (drawn.temperature, drawn.top_p, drawn.max_tokens, request.top_logprobs)
                batches.setdefault(key, []).append(place)
        for places in batches.values():
            replies = self._loaded.replies(
                [requests[p] for p in places], self._model, lambda: self._stopped
            )
            answers |= dict(zip(places, replies, strict=True))
        return [answers[place] for place in range(len(requests))]

    async def aclose(self) -> None:
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Loaded:
    """A model and its tokenizer in memory."""

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
        return BackendError(f"{tokens} tokens do not fit the model's window of {self.window}")

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


def row_seed(request: Request) -> int:
    """The seed of a request's own random stream, 63 bits.

    It leaves the model out: two models asked the same draw use the same random numbers, which
    narrows the difference between them.
    """
    return int(request.digest("")[:16], 16) >> 1


def count_parameters(folder: Path) -> int:
    """Parameters in a checkpoint, from the headers of its safetensors files."""
    import json
    import math
    import struct

    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        total += sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return total


def quiet_transformers() -> None:
    """Keep loading bars and notes of transformers off the terminal; errors still raise."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
