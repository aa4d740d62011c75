"""Small constitutions and scripted models for tests of chains."""

from __future__ import annotations

from collections.abc import Callable

from rlaif.backends.scripted import Reply, ScriptedBackend
from rlaif.constitutional.chains import Reviser
from rlaif.constitutional.rendering import CRITIQUE_ONLY, REVISION_ONLY, Script
from rlaif.specs.constitution import ComparisonExample, Constitution, CritiqueExample, Principle
from rlaif.types import Item, Message, Request

KIND = Principle("kind", "Where is it cold?", "Warm it.", "Choose the kinder one.")
BRIEF = Principle("brief", "What could go?", "Cut it.", "Choose the shorter one.")
MINE = Constitution(
    "mine",
    "1.0.0",
    "",
    "ours",
    (KIND, BRIEF),
    (CritiqueExample("Hi", "What?", "It is cold.", "Hello!", "kind"),),
    (ComparisonExample("Hi", "Hello!", "What?", "A", "kind", "It greets."),),
)


def item(name: str = "i1", prompt: str = "How do I open a jar?", **meta: object) -> Item:
    return Item(name, (Message("user", prompt),), meta=meta)


def part_of(request: Request) -> str:
    """Which part of a chain a request in the form of a chat asks for."""
    last = request.messages[-1].content
    if last.endswith(CRITIQUE_ONLY):
        return "critique"
    return "revision" if last.endswith(REVISION_ONLY) else "response"


def actor(
    critique: Reply | Callable[[Request], Reply] = "It leaves out the warm water.",
    revision: Reply | Callable[[Request], Reply] | None = None,
    response: Reply = "Twist hard.",
) -> ScriptedBackend:
    """A model that answers, criticizes, and revises to something new each round."""

    def fresh(request: Request) -> Reply:
        return f"Run warm water over the lid {request.draw} times, then twist."

    said = {"response": response, "critique": critique, "revision": revision or fresh}

    def reply(request: Request) -> Reply:
        found = said[part_of(request)]
        return found(request) if callable(found) else found

    return ScriptedBackend(reply, model="scripted/actor")


def reviser(backend: ScriptedBackend, **more) -> Reviser:
    script = more.pop("script", Script(MINE))
    return Reviser(backend, more.pop("critic", backend), script, **more)
