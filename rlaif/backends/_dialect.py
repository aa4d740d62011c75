"""What a server understands beyond OpenAI's format, by the program that it runs.

Servers ignore what they do not know, so a parameter in the wrong dialect does nothing and says
nothing. The list of models tells who serves them.

Sources: vLLM, "Structured Outputs" (`structured_outputs`; before 0.12 `guided_choice`); llama.cpp,
`tools/server/README.md` (`grammar`, `cache_prompt`); SGLang, "Structured Outputs" (`regex`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from rlaif.backends._body import Body, read_json
from rlaif.backends._connection import Answer, Connection
from rlaif.backends._http import Endpoint
from rlaif.errors import BackendError
from rlaif.types import Request

Dialect = Literal["vllm", "vllm_guided", "llama.cpp", "sglang", "openai"]
EXTRAS = frozenset({"structured_outputs", "guided_choice", "regex", "grammar", "cache_prompt"})
"""Every parameter that `extras` makes."""

_OWNERS: dict[str, Dialect] = {"vllm": "vllm", "llamacpp": "llama.cpp", "sglang": "sglang"}
_FIRST_STRUCTURED = (0, 11)
"""vLLM's first version that takes `structured_outputs`."""


async def find_dialect(endpoint: Endpoint, connection: Connection) -> Dialect:
    """The dialect of the server at `endpoint`; plain OpenAI's where it cannot be told."""
    try:
        listing = await connection.get(f"{endpoint.url}/models")
        models = Body(endpoint, read_json(endpoint, listing.text)).parts("data")
        owners = [model.text("owned_by") for model in models]
        known = [_OWNERS[owner] for owner in owners if owner in _OWNERS]
        dialect: Dialect = known[0] if known else "openai"
        if dialect != "vllm":
            return dialect
        answer = await connection.get(f"{endpoint.url.removesuffix('/v1')}/version")
    except BackendError:
        return "openai"
    return "vllm" if _version(endpoint, answer) >= _FIRST_STRUCTURED else "vllm_guided"


def _version(endpoint: Endpoint, answer: Answer) -> tuple[int, ...]:
    """The version of a vLLM server; a recent one where it does not say."""
    try:
        said = Body(endpoint, read_json(endpoint, answer.text)).text("version")
    except BackendError:
        said = ""
    found = re.match(r"(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else _FIRST_STRUCTURED


def wants_extras(request: Request) -> bool:
    """Whether the dialect matters to `request`."""
    return bool(request.choices or request.shared)


def extras(request: Request, dialect: Dialect) -> dict[str, Any]:
    """The parameters that hold the reply to `request.choices` and keep the prompt for the next."""
    made: dict[str, Any] = {}
    choices = list(request.choices)
    if choices and dialect == "vllm":
        made["structured_outputs"] = {"choice": choices}
    elif choices and dialect == "vllm_guided":
        made["guided_choice"] = choices
    elif choices and dialect == "sglang":
        made["regex"] = f"({'|'.join(map(re.escape, choices))})"
    elif choices and dialect == "llama.cpp":
        made["grammar"] = f"root ::= {' | '.join(map(_literal, choices))}"
    if request.shared and dialect == "llama.cpp":
        made["cache_prompt"] = True
    return made


def _literal(text: str) -> str:
    """`text` as a literal of llama.cpp's grammars, which escape as JSON does."""
    return json.dumps(text, ensure_ascii=False)
