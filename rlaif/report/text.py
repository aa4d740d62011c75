"""Judged text made safe and visible in HTML: no markup, no controls, no changed reading order."""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls but tab and newline
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of direction
    "\ud800-\udfff\ufffe\uffff]"  # lone surrogates and what is no character
)
_FOLD = 1500
"""A text longer than this many characters is folded."""
_PREVIEW = 900
"""How much of a folded text is shown."""
_MARKUP = re.compile(r"`([^`\n]+)`|\*\*([^*\n]+)\*\*")


def escape(text: str) -> str:
    """`text` for the inside of an HTML element or a quoted attribute, as it reads.

    Characters that a reader cannot see, that turn the reading order of what follows, or that
    UTF-8 cannot carry are shown by their code point. Any kind of line end becomes a newline.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return html.escape(_UNSEEN.sub(_code_point, lines), quote=True)


def inline(text: str) -> str:
    """`text` escaped, with `code` and **bold** marked up and nothing else."""
    parts: list[str] = []
    end = 0
    for match in _MARKUP.finditer(text):
        parts.append(escape(text[end : match.start()]))
        code, bold = match.groups()
        element, content = ("code", code) if code is not None else ("strong", bold)
        parts.append(f"<{element}>{escape(content)}</{element}>")
        end = match.end()
    parts.append(escape(text[end:]))
    return "".join(parts)


def short(text: str) -> str:
    """`text` in a heading: all of it up to 300 characters."""
    return escape(text if len(text) <= 300 else text[:300].rstrip() + "…")


def said(text: str) -> str:
    """What a model or a person wrote, as it was written; the end of a long text is folded."""
    if not text.strip():
        return '<p class="said empty">(empty)</p>'
    if len(text) <= _FOLD:
        return f'<div class="said" dir="auto">{escape(text)}</div>'
    cut = max(text.rfind(" ", 0, _PREVIEW), text.rfind("\n", 0, _PREVIEW))
    if cut < _PREVIEW // 2:
        cut = _PREVIEW
    return (
        f'<div class="said" dir="auto">{escape(text[:cut])}…</div><details><summary>'
        f"Show the other {len(text) - cut:,} characters</summary>"
        f'<div class="said" dir="auto">{escape(text[cut:].lstrip())}</div></details>'
    )


def _code_point(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"
