"""Where model addresses lead: `provider/name` to the backend that serves it.

    split_address("openai/gpt-5.1")    # ("openai", "gpt-5.1")
    key_variable("openai/gpt-5.1")     # "OPENAI_API_KEY"
    open_provider("scripted/replies.jsonl", BackendOptions())

Nothing here reads the environment: whoever opens a provider passes its key in the options, as
`resolve_options` finds it in the variables that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from rlaif.backends.base import Backend, BackendOptions
from rlaif.errors import ConfigError, suggestion

AZURE_KEY = "AZURE_OPENAI_API_KEY"
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
    base_url: str | None = None
    """Environment variable that the provider's own tools read its address from."""
    usual_url: str = ""
    """Its address where none is given."""


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "rlaif.backends.openai:OpenAIBackend",
        "OpenAI's API",
        key="OPENAI_API_KEY",
        needs_key=True,
        base_url="OPENAI_BASE_URL",
        usual_url="https://api.openai.com/v1",
    ),
    "anthropic": Provider(
        "rlaif.backends.anthropic:AnthropicBackend",
        "Anthropic's API",
        key="ANTHROPIC_API_KEY",
        needs_key=True,
        base_url="ANTHROPIC_BASE_URL",
        usual_url="https://api.anthropic.com",
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
    "reward": Provider(
        "rlaif.backends.reward:open_reward",
        "a sequence classifier that scores responses, from a checkpoint folder",
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


def resolve_options(
    address: str,
    environ: Mapping[str, str],
    *,
    base_url: str | None = None,
    timeout_s: float = 120.0,
    home: Path | None = None,
) -> BackendOptions:
    """What the provider of `address` needs, from the variables of an environment.

    Read are the provider's key and base URL, the proxy (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
    and `NO_PROXY`, upper or lower case) and, for `openai/`, an Azure resource: it is used where
    `AZURE_OPENAI_ENDPOINT` is set, no base URL is given, and either there is no `OPENAI_API_KEY` or
    `OPENAI_API_TYPE` is `azure`. Its key is `AZURE_OPENAI_API_KEY`; `OPENAI_API_VERSION` may name
    the version of its API.

    Args:
        address: The model.
        environ: The environment of the process, say.
        base_url: Comes before the one of the environment.
        timeout_s: Longest wait for one call.
        home: Where converted models are kept; the usual place by default.

    Raises:
        ConfigError: as `split_address`.
    """
    name, _ = split_address(address)
    provider = PROVIDERS[name]
    url = base_url or environ.get(provider.base_url or "") or None
    azure = name == "openai" and url is None and _is_azure(environ)
    if azure:
        url = environ["AZURE_OPENAI_ENDPOINT"]
    key = AZURE_KEY if azure else provider.key
    options = BackendOptions(
        api_key=environ.get(key) if key else None,
        base_url=url,
        timeout_s=timeout_s,
        proxy=proxy_for(url or provider.usual_url, environ),
        azure=azure,
        api_version=(environ.get("OPENAI_API_VERSION") or None) if azure else None,
    )
    return options if home is None else replace(options, home=home)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that an environment names for calls to `url`; `None` for none."""
    named = {name.lower(): value for name, value in environ.items() if value}
    # a lower-case variable comes first, as it does for other programs
    named |= {name: value for name, value in environ.items() if value and name.islower()}
    parts = urlsplit(url if "://" in url else f"http://{url}")
    proxy = named.get(f"{parts.scheme}_proxy") or named.get("all_proxy")
    if not proxy or not parts.netloc:
        return None
    direct = [entry.strip().lower() for entry in named.get("no_proxy", "").split(",")]
    place, host = parts.netloc.rpartition("@")[2].lower(), parts.hostname or ""
    names = [place, host, *(host[i:] for i, c in enumerate(host) if c == ".")]
    names += [name.removeprefix(".") for name in names[2:]]
    return None if "*" in direct or any(name in direct for name in names) else proxy


def _is_azure(environ: Mapping[str, str]) -> bool:
    if not environ.get("AZURE_OPENAI_ENDPOINT"):
        return False
    return not environ.get("OPENAI_API_KEY") or environ.get("OPENAI_API_TYPE") == "azure"


def open_provider(address: str, options: BackendOptions) -> Backend:
    """The backend that serves `address`, without any wrapper.

    Raises:
        ConfigError: the address is wrong, or a key, a URL or an installed package is missing.
        SpecError: a script file is malformed.
    """
    provider_name, name = split_address(address)
    provider = PROVIDERS[provider_name]
    if provider.needs_key and not (options.api_key or "").strip():
        variable = AZURE_KEY if options.azure else provider.key
        raise ConfigError(f"{provider_name}/ needs a key: set {variable}")
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
