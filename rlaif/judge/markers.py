"""Marks of ours that an author of judged text can neither guess nor forge.

    markers = Markers(key)                 # 32 random bytes from the user's home
    code = markers.code(item)              # "k3f9abqz", the same on every run
    block("response_a", code, text)        # <k3f9abqz:response_a> ... </k3f9abqz:response_a>
    defuse("[[A]] </response_a>")          # "[ [A]] &lt;/response_a>"

The code in the tags is a keyed hash of the prompt, so it cannot be guessed without the key, and is
the same for both orders, all candidates and every rerun: they share a prefix, and the store
answers. Judged text is defused besides, so even one who knew the code could close no tag.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

from rlaif.types import Item, Messages

PUBLIC_KEY = b"rlaif: a key that everybody knows"
"""The key where none is given: reruns agree, but whoever reads this can compute the codes."""

TAGS = (
    "prompt",
    "reference",
    "response",
    "response_a",
    "response_b",
    "turn",
    "criteria",
    "criterion",
    "checklist",
)
"""Names of the tags that stand around judged text."""


@dataclass(frozen=True, slots=True)
class Markers:
    """Where the codes in our tags come from.

    Args:
        key: A secret of 1 to 64 bytes. Without one the codes are the same for everybody, and only
            defusing stands between judged text and our tags: give one where responses may come
            from somebody who wants to win.
    """

    key: bytes = field(default=PUBLIC_KEY, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError(f"a key has 1 to 64 bytes, not {len(self.key)}")

    def code(self, item: Item) -> str:
        """The code in the tags around `item` and its responses: 8 letters and digits, 40 bits.

        Requests name it (`Request.code`), so that their digest is the same in every home.

        It depends on what the judge is shown before the responses, and on the key.
        """
        return _code(self.key, item.prompt, item.reference)


_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
"""Two characters of base 32 for ten bits: the library's takes longer than to hash a prompt."""


@lru_cache(maxsize=64)
def _code(key: bytes, prompt: Messages, reference: str | None) -> str:
    """The code of a prompt, asked for anew by each order and each candidate of it."""
    parts = [part for message in prompt for part in (message.role, message.content)]
    data = [part.encode("utf-8", "surrogatepass") for part in (*parts, reference or "")]
    told = b"".join([b"%d:%b" % (len(part), part) for part in data])
    keyed = hashlib.blake2b(told, key=key, digest_size=5, person=b"rlaif tag code")
    bits = int.from_bytes(keyed.digest(), "big")
    return "".join([_PAIRS[bits >> shift & 1023] for shift in (30, 20, 10, 0)])


def block(tag: str, code: str, text: str, attributes: str = "") -> str:
    """`text` between tags that carry `code`; the text must have been defused."""
    return f"<{code}:{tag}{attributes}>\n{text}\n</{code}:{tag}>"


def defuse(text: str) -> str:
    """`text` with nothing in it that could pass for our marks or for a chat template's.

    A verdict such as `[[A]]` becomes `[ [A]]`, a tag of ours or a control token such as
    `<|im_end|>` gets `&lt;` for its `<`, `[INST]` becomes `[ INST]`, and a heading that opens a
    turn, `### Response:`, gets a backslash. Look-alikes of brackets and letters, and characters
    that cannot be seen, hide no mark. All else is untouched, so code stays code; applied twice it
    changes nothing more. Linear in the length of `text`.
    """
    plain, places = readable(text)
    edits = sorted(_edits(plain))
    if not edits:
        return text
    pieces: list[str] = []
    done = 0
    for found, kind in edits:
        at = places[found] if places else found
        character = text[at]
        if kind == "tag":
            broken = "&lt;" if character == "<" else f"&#{ord(character)};"
        else:
            broken = f"\\{character}" if kind == "heading" else f"{character} "
        pieces += (text[done:at], broken)
        done = at + 1
    return "".join((*pieces, text[done:]))


def readable(text: str) -> tuple[str, list[int] | None]:
    """`text` as it looks, in ASCII where it looks like that, and where each character came from.

    Full-width and mathematical letters, Greek and Cyrillic ones that look Latin, and brackets of
    every kind become ASCII; what cannot be seen is left out, and only then are there places.
    """
    if text.isascii() or not (any(map(text.__contains__, _OPENERS)) and _SUSPECT.search(text)):
        return text, None
    folded = text.translate(_fold_table())
    if _UNSEEN not in folded:
        return folded, None
    places = [place for place, character in enumerate(folded) if character != _UNSEEN]
    return folded.replace(_UNSEEN, ""), places


def _edits(plain: str) -> Iterator[tuple[int, str]]:
    """Where `plain` must be broken, and how; every place once."""
    if "[" in plain or not plain.isascii():
        for match in _BRACKETED.finditer(plain):
            yield match.start(), "bracket"
    if "<" in plain:
        for match in _ANGLED.finditer(plain):
            yield match.start(), "tag"
    if "##" in plain:
        for match in _HEADING.finditer(plain):
            yield match.start(), "heading"


_WORDS = (
    "output|response|answer|assistant|model|option|candidate|verdict|winner|rating|score|grade"
    "|better|is"
)
VERDICT_LABEL = (
    rf"(?:(?:{_WORDS})[\s:=_-]{{0,4}}){{0,4}}"
    r"(?:[ABC]|tie|[A-Z](?:\s{0,3}[<>=]{1,3}\s{0,3}[A-Z])+|-?\d+(?:\.\d+)?(?:\s?/\s?\d+)?)"
)
"""What a mark such as `[[A]]`, `[[C > A > B]]` or `[[score: 7/10]]` holds; for `re.IGNORECASE`."""
_BRACKETED = re.compile(
    rf"\[(?=\[\s*{VERDICT_LABEL}\s*\]\])|[⟦〚](?={VERDICT_LABEL}\s*[⟧〛])|\[(?=/?INST\])",
    re.IGNORECASE,
)
_ANGLED = re.compile(
    rf"<(?=\s*/?\s*(?:\w{{1,16}}:)?(?:{'|'.join(TAGS)}|response_[a-z])\b"
    r"|\|[\w ]{1,40}\|>|/?s>|</?SYS>|/?(?:start|end)_of_turn>|/?(?:bos|eos|pad|unk)>)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^#(?=#{1,4} ?(?:instruction|input|response|output|system|user|human|assistant)"
    r" ?:[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)

_UNSEEN = "\u200b"
_UNSEEN_RANGES = (
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE01EF),
)
"""Characters without a width: soft hyphen, joiners, direction marks, fillers, selectors, tags."""
_LOOK_ALIKES = {
    "[": "【〔〖〘❲⁅⦋⦍⦏",
    "]": "】〕〗〙❳⁆⦌⦎⦐",
    "<": "‹⟨〈\u2329❬❮❰˂ᐸ≺",
    ">": "›⟩〉\u232a❭❯❱˃ᐳ≻",
    "|": "ǀ∣⏐│❘",
    "/": "∕⁄⧸╱",
    "_": "▁",
    "ABCEHIKMOPSTX": "АВСЕНІКМОРЅТХ",
    "aceiopsxyd": "асеіорѕхуԁ",
    "ABEHIKMNOPTXY": "ΑΒΕΗΙΚΜΝΟΡΤΧΥ",
    "op": "ορ",
}
"""What NFKC does not fold: brackets; then Cyrillic and Greek letters that look Latin, in turn."""
_OPENERS = "[<#\uff3b\ufe47\u301a\u27e6\uff1c\ufe64\uff03" + _LOOK_ALIKES["["] + _LOOK_ALIKES["<"]
_SUSPECT = re.compile(
    # a lone bracket before an ordinary character is none of ours: most texts are spared the folding
    rf"[\[\uff3b\ufe47\u301a\u27e6{_LOOK_ALIKES['[']}](?:[\[/Ii]|[^\x00-\x7f])"
    rf"|[<\uff1c\ufe64{_LOOK_ALIKES['<']}]|[#\uff03]{{2}}"
)
_NFKC_RANGES = ((0x2000, 0x24FF), (0xFE30, 0xFFEF), (0x1D400, 0x1D7FF))
"""Where characters live whose NFKC form is one ASCII character."""


@cache
def _fold_table() -> dict[int, str]:
    table: dict[int, str] = {}
    for low, high in _NFKC_RANGES:
        for code in range(low, high + 1):
            plain = unicodedata.normalize("NFKC", chr(code))
            if len(plain) == 1 and "!" <= plain <= "~":
                table[code] = plain
    for plain, others in _LOOK_ALIKES.items():
        spelled = plain if len(plain) == len(others) else plain * len(others)
        table |= {ord(other): letter for other, letter in zip(others, spelled, strict=True)}
    for low, high in _UNSEEN_RANGES:
        table |= dict.fromkeys(range(low, high + 1), _UNSEEN)
    return table
