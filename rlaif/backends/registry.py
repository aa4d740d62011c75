"""Where model addresses lead: `provider/name` to the backend that serves it.

    split_address("openai/gpt-5.1")    # ("openai", "gpt-5.1")
    key_variable("openai/gpt-5.1")     # "OPENAI_API_KEY"
    open_provider("scripted/replies.jsonl", BackendOptions())

Nothing here reads the environment: whoever opens a provider passes its key in the options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from rlaif.backends.base import Backend, BackendOptions
from rlaif.errors import ConfigError, suggestion

Opener = Callable[[str, BackendOptions], Backend]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider of models."""

    opener: str
    """`module:function` of an `Opener`, imported when first used."""
    description: str
    key: str | None = None
    """Environment variable that conventionally holds its key."""
    needs_key: bool = False
    """Whether it cannot be used without one."""
    extra: str | None = None
    """The extra of rlaif that it needs."""
    needs_base_url: bool = False


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "rlaif.backends.openai:OpenAIBackend",
        "OpenAI's API",
        key="OPENAI_API_KEY",
        needs_key=True,
    ),
    "anthropic": Provider(
        "rlaif.backends.anthropic:AnthropicBackend",
        "Anthropic's API",
        key="ANTHROPIC_API_KEY",
        needs_key=True,
    ),
    "server": Provider(
        "rlaif.backends.server:ServerBackend",
        "any OpenAI-compatible server: vLLM, Ollama, llama.cpp, LM Studio",
        key="RLAIF_SERVER_API_KEY",
        needs_base_url=True,
    ),
    "local": Provider(
        "rlaif.backends.local:open_local",
        "the embedded model, or a checkpoint folder",
        extra="local",
    ),
    "scripted": Provider(
        "rlaif.backends.scripted:open_script",
        "replies read from a JSONL file",
    ),
}

_FAMILIES = {"gpt": "openai", "chatgpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai"}
_FAMILIES |= {"claude": "anthropic", "smollm2": "local"}


def split_address(address: str) -> tuple[str, str]:
    """The provider and the model's name in an address; the name may hold slashes itself.

    Raises:
        ConfigError: there is no provider that is known, or no name.
    """
    provider, slash, name = address.strip().partition("/")
    if provider in PROVIDERS and name:
        return provider, name
    if provider in PROVIDERS:
        raise ConfigError(f"the address {address!r} names no model: write {provider}/NAME")
    if not slash:
        raise ConfigError(f"the address {address!r} names no provider: {_with_provider(provider)}")
    near = suggestion(provider, PROVIDERS)
    raise ConfigError(f"unknown provider {provider!r} in the address {address!r}: {near}")


def key_variable(address: str) -> str | None:
    """The environment variable that holds the key for `address`; None where there is none.

    Raises:
        ConfigError: as `split_address`.
    """
    provider, _ = split_address(address)
    return PROVIDERS[provider].key


def open_provider(address: str, options: BackendOptions) -> Backend:
    """The backend that serves `address`, without any wrapper.

    Raises:
        ConfigError: the address is wrong, or a key, a URL or an installed package is missing.
        SpecError: a script file is malformed.
    """
    provider_name, name = split_address(address)
    provider = PROVIDERS[provider_name]
    if provider.needs_key and not (options.api_key or "").strip():
        raise ConfigError(f"{provider_name}/ needs a key: set {provider.key}")
    if provider.needs_base_url and not options.base_url:
        raise ConfigError(f"{provider_name}/ needs the server's address: pass --base-url URL")
    module, _, function = provider.opener.partition(":")
    try:
        opener = cast("Opener", getattr(import_module(module), function))
        return opener(name, options)
    except ImportError as error:
        if provider.extra is None:
            raise
        raise ConfigError(
            f"{provider_name}/ needs packages that are not installed ({error.name or error}): "
            f"pip install 'rlaif[{provider.extra}]'"
        ) from error


def _with_provider(name: str) -> str:
    """The end of an error message about a model that was named without its provider."""
    family = name.lower().split("-")[0]
    if family in _FAMILIES:
        return f"did you mean {_FAMILIES[family]}/{name}?"
    return f"write PROVIDER/NAME with one of {', '.join(PROVIDERS)}"
