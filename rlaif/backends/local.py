"""A model in this process, through transformers: `local/smollm2-135m` or `local/PATH`.

The model loads at the first call that the reply store cannot answer. Replies are sampled in
batches; every row draws from its own seeded stream. A reply of one token, or of one of the
request's choices, is read from the probabilities after one prefill, in which prompts that begin
alike share what they begin with. Likelihoods are read one sequence at a time, so they never depend
on what else is being scored. Nothing is ever fetched from a model hub.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Request

if TYPE_CHECKING:
    from rlaif.backends.loaded import LoadedModel

_GROUP_SIZE = 48  # rows; on a CPU the tokens per second of a small model stop growing near here


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
    def _loaded(self) -> LoadedModel:
        from rlaif.backends.embedded import chosen_dtype
        from rlaif.backends.loaded import LoadedModel

        return LoadedModel(self._folder, chosen_dtype(self._home))

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
            batch = [w for w in batch if not w.future.done()]
            try:
                answers = await self._run([w.request for w in batch])
            except Exception as error:  # a bug, or fatal: whoever asked gets it as it is
                _settle(batch, [error] * len(batch))
            except BaseException:
                for waiting in (*batch, *self._waiting):
                    waiting.future.cancel()
                self._waiting.clear()
                raise
            else:
                _settle(batch, answers)

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
        if self._stopped:
            raise _closed()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._answer, requests)
        except InterruptedError as error:
            raise _closed() from error

    def _answer(self, requests: list[Request]) -> list[Completion | BackendError]:
        answers: dict[int, Completion | BackendError] = {}
        batches: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            batches.setdefault(_kind(request), []).append(place)
        for (way, *_), places in batches.items():
            replies = self._guarded(way, [requests[p] for p in places])
            answers |= dict(zip(places, replies, strict=True))
        return [answers[place] for place in range(len(requests))]

    def _guarded(self, way: Way, requests: list[Request]) -> list[Completion | BackendError]:
        """Answers to requests of a kind. Where memory runs out, each is tried by itself."""
        from rlaif.backends.loaded import out_of_memory

        loaded = self._loaded
        try:
            if way == "likelihood":
                return [loaded.likelihood(r, self._model) for r in requests]
            answer = loaded.next_words if way == "next" else loaded.replies
            return answer(requests, self._model, lambda: self._stopped)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(requests) == 1:
                return [loaded.no_memory(requests[0])]
        return [reply for r in requests for reply in self._guarded(way, [r])]

    async def aclose(self) -> None:
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)


Way = Literal["likelihood", "next", "sampled"]


def _kind(request: Request) -> tuple[Way, *tuple[Any, ...]]:
    """How a request is answered; requests of one kind are answered together."""
    if request.task == "likelihood":
        return ("likelihood",)
    drawn = request.sampling
    if request.choices or drawn.max_tokens == 1:
        return ("next",)
    return ("sampled", drawn.temperature, drawn.top_p, drawn.max_tokens, request.top_logprobs)


def _settle(batch: Sequence[_Waiting], answers: Sequence[Completion | Exception]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.future.done():
            continue
        if isinstance(answer, Exception):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)


def _closed() -> BackendError:
    return BackendError("the model was closed before it answered", kind="connection")


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
