"""Judged text made safe and visible in HTML: no markup, no controls, no changed reading order."""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls but tab and newline
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of direction
    "\ud800-\udfff\ufffe\uffff]"  # lone surrogates and what is no character
)
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


def _code_point(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"
