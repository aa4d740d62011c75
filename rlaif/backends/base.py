"""The seam that every provider, wrapper and fake fills: one await that answers a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlaif.types import Completion, Request


class Backend(Protocol):
    """A model that answers requests. This is all that a new provider writes."""

    @property
    def model(self) -> str:
        """The model's address, as users write it: `provider/name`."""
        ...

    @property
    def identity(self) -> str:
        """All about this backend that can change a reply, for the digest of a request.

        The address, and what it hides: the server's URL, the weights of a local checkpoint.
        It never holds a key.
        """
        ...

    async def complete(self, request: Request) -> Completion:
        """Answer `request`; raise `BackendError` for every failure of the provider."""
        ...

    async def aclose(self) -> None:
        """Give connections and memory back. Safe to call twice."""
        ...


@runtime_checkable
class GroupBackend(Protocol):
    """A backend that answers many requests together faster than one by one.

    A group is computed as a whole, so its replies depend on the group (rounding follows the
    shape of the batch) and are kept as a whole: all of them or none.
    """

    @property
    def group_size(self) -> int:
        """How many requests of a group are answered fastest."""
        ...

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests`, in order; raise `BackendError` if any cannot be answered."""
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a provider needs beside the name of the model."""

    api_key: str | None = None
    base_url: str | None = None
    timeout_s: float = 120.0
    """Longest wait for one call."""
    home: Path = field(default_factory=lambda: Path.home() / ".cache" / "rlaif")
    """Where converted models and measurements are kept."""
    proxy: str | None = None
    """URL of the HTTP proxy that calls go through; nothing else reads the environment for one."""
    azure: bool = False
    """Whether `base_url` is an Azure OpenAI resource, such as https://NAME.openai.azure.com."""
    api_version: str | None = None
    """Azure's version of the API; without one its versionless paths are used."""

    def __repr__(self) -> str:
        key = "set" if self.api_key else "not set"
        return (
            f"BackendOptions(api_key={key}, base_url={self.base_url!r}, timeout_s={self.timeout_s})"
        )


class Wrapper:
    """Base of backends that add behavior to another one: all but `complete` passes through."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def model(self) -> str:
        return self.inner.model

    @property
    def identity(self) -> str:
        return self.inner.identity

    @property
    def in_rounds(self) -> bool:
        """Whether what is in flight together is answered together, and slowly: nothing that could
        be asked now should wait for the answer to something else.
        """
        return bool(getattr(self.inner, "in_rounds", False))

    async def complete(self, request: Request) -> Completion:
        return await self.inner.complete(request)

    async def aclose(self) -> None:
        await self.inner.aclose()
