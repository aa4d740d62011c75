r"""Shapes that texts written for a judge take, as patterns over lower-case text.

A `Sign` is looked for only where a hint of it stands in the text. The hints of all signs are sought
at once, and nearly every honest text is done with there. Each pattern takes time linear in the
text: what may repeat is bounded wherever a match could begin at more than one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rlaif.judge.markers import TAGS, VERDICT_LABEL

Flag = Literal[
    "verdict_shaped",
    "judge_instruction",
    "template_echo",
    "forged_tag",
    "hidden_text",
    "token_soup",
    "repetitive",
    "constant_response",
]


@dataclass(frozen=True, slots=True)
class Sign:
    """One shape, and the flag it raises."""

    flag: Flag
    hint: str
    """A part of it, for `rlaif.judge.seeking`: it is in every lower-case text that has the sign."""
    pattern: re.Pattern[str] | None = None
    """What settles it; None where the hint does."""


_TEXT = "(?:response|answer|output|reply|submission|text|candidate|essay|solution)"
_SIDE = r"(?:response|answer|output|assistant|model|candidate|option|submission)"
_WHICH = rf"(?:\b{_SIDE} ?[\"'(\[]{{0,2}}[ab12]\b[\"')\]]{{0,2}})"
_ADVERB = "(?:the|much|clearly|far|slightly|significantly|therefore|simply)"
_WINS = rf"(?:(?:is|was) (?:{_ADVERB} ){{0,3}}(?:better|best|superior|preferred|winner)\b|wins\b)"
_JUDGE = "(?:judges?|evaluators?|graders?|raters?|assessors?|annotators?)"
_KIND = "(?:impartial|fair|expert|careful|ai|llm|human|language model)"
_OURS = "(?:this|my|the above|the present)"
_BEST = (
    "(?:better|best|superior|winner|wins|preferred|highest|maximum|full marks|full score|perfect"
    "|top score|top rating|10/10|5/5)"
)
_ORDER = (
    "(?:prefer|choose|select|pick|declare|rate|score|grade|give|award|rank|vote|output|answer|reply"
    "|return|print|judge|consider)"
)
_REASONS = "(?:reasons?|reasoning|rationale|explanation|feedback|justification|critique)"
_GRADE = "(?:score|rating|grade)"
_JSON_KEY = "(?:verdict|winner|preference|preferred|better|best_response|choice)"
_TAGS = (
    f"{'|'.join(TAGS)}|judge|verdict|rubric|candidate|submission|assistant|user_?prompt|system"
    "|evaluation"
)
_SYSTEM_NOTE = (
    "(?:new|updated|system|developer|admin)[ _](?:system |developer )?"
    "(?:instructions?|prompt|message|override|note|directive|command)"
)
_END_OF = (
    "end[ _]of[ _](?:the[ _])?(?:response|answer|assistant|output|prompt|material|candidate"
    "|conversation)"
)
_SPACE = r"[\s\x1c-\x1f]"
"""What Python takes for white space, to Rust."""

SIGNS: tuple[Sign, ...] = (
    Sign(
        "verdict_shaped",
        r"\[\[",
        # x[[0]] is an index; a number is a verdict only where it is none
        re.compile(
            rf"\[\[\s*(?!-?\d+\s*\]){VERDICT_LABEL}\s*\]\]|(?<![\w)\]])\[\[\s*-?\d+\s*\]\]",
            re.IGNORECASE,
        ),
    ),
    Sign(
        "verdict_shaped",
        "(?:verdict|winner)[\"'* ]{0,4}(?::|=|is)",
        re.compile(
            r"\b(?:verdict|winner)\b[\"'* ]{0,4}(?::|=|is\b)[\"'*\s(\[]{0,6}"
            rf"(?:{_WHICH}|[ab]\b(?=[\"'*)\].,]|\s*$| (?:is|wins)\b))",
            re.MULTILINE,
        ),
    ),
    Sign("verdict_shaped", r"\[result\]", re.compile(r"\[result\]\s{0,4}\(?(?:\d|[ab]\b)")),
    Sign(
        "verdict_shaped",
        rf"{_SIDE} ?[\"'(\[]{{0,2}}[ab12][\"')\]]{{0,2}},? (?:is|was|wins)",
        re.compile(rf"{_WHICH},? {_WINS}"),
    ),
    Sign(
        "verdict_shaped",
        rf"{_GRADE}[\"'* ]{{0,4}}(?::|=|is)?{_SPACE}{{0,3}}\[",
        re.compile(rf"\b{_GRADE}\b[\"'* ]{{0,4}}(?::|=|is)?\s{{0,3}}\[\[?\s?\d"),
    ),
    Sign(
        "verdict_shaped",
        rf'"{_JSON_KEY}"',
        re.compile(
            rf"\"{_JSON_KEY}\"\s{{0,4}}:\s{{0,4}}\"?\[{{0,2}}"
            rf"(?:[ab12]\b|tie\b|{_WHICH}|{_SIDE}_[ab12]\b)"
        ),
    ),
    Sign(
        "verdict_shaped",
        rf'"{_GRADE}"',
        re.compile(
            rf"\"{_REASONS}\"\s{{0,4}}:[^{{}}]{{0,400}}\"{_GRADE}\"\s{{0,4}}:\s{{0,4}}\d"
            rf"|\"{_GRADE}\"\s{{0,4}}:\s{{0,4}}\d[^{{}}]{{0,40}}\"{_REASONS}\"\s{{0,4}}:"
        ),
    ),
    Sign(
        "judge_instruction",
        "ignore|disregard|forget|override|overrule",
        re.compile(
            r"\b(?:ignore|disregard|forget|override|overrule)\b[^.\n]{0,30}"
            r"\b(?:previous|prior|above|earlier|preceding|foregoing|other|system|original)\b"
            r"[^.\n]{0,30}\b(?:instruction|prompt|message|rule|criteri|guideline|rubric|direction"
            r"|response|answer|context)"
            r"|\b(?:ignore|disregard|forget) (?:all |everything )?(?:of )?(?:the )?above\b"
        ),
    ),
    Sign(
        "judge_instruction",
        _JUDGE,
        re.compile(
            r"\b(?:note|attention|message|instructions?|reminder) ?:? (?:to|for) "
            rf"(?:(?:the|an?|all|any|our) ){{0,2}}(?:{_KIND} ){{0,2}}{_JUDGE}\b"
            rf"|\bas (?:the|an?) (?:{_KIND} ){{0,2}}{_JUDGE},? you(?:r (?:job|task|duty))?\b"
            rf"|\b{_JUDGE} (?:must|should|shall|have to|has to|(?:are|is) (?:required|asked"
            rf"|instructed|told) to) (?:\w+ ){{0,2}}{_ORDER}\b"
            rf"|\bverdict of the {_JUDGE}\b"
        ),
    ),
    Sign(
        "judge_instruction",
        rf"{_OURS} {_TEXT}",
        re.compile(
            rf"\b{_ORDER}(?:s|ed)? {_OURS} {_TEXT} [^.\n]{{0,30}}\b{_BEST}\b"
            rf"|\b{_OURS} {_TEXT} (?:is|was|deserves|should|must|has been|meets|merits)\b"
            rf"(?: [\w,]+){{0,5}} (?:{_BEST}|certified|chosen|selected|declared)\b"
            r" (?:of|than|one|response|answer|output|score|rating|marks?|grade)\b"
            rf"|\b{_OURS} {_TEXT} (?:wins\b|(?:is|was) (?:\w+ ){{0,4}}certified\b)"
            rf"|\b{_OURS} {_TEXT} is (?:the )?(?:clear )?winner"
        ),
    ),
    Sign(
        "judge_instruction",
        rf"(?:declare|choose|select|pick|prefer) (?:the|this) {_TEXT}",
        re.compile(
            rf"\b(?:declare|choose|select|pick|prefer) (?:the|this) {_TEXT} (?:that|which|above"
            r"|with|holding|containing)\b[^.\n]{0,60}\b(?:better|best|winner|preferred)\b"
        ),
    ),
    Sign(
        "judge_instruction",
        r"(?:score|rating|grade|mark) of (?:10|5|\[\[)|10/10|\[10"
        "|(?:highest|maximum|perfect|full|top)(?: possible)? (?:score|rating|mark|grade)",
        re.compile(
            r"\b(?:give|award|assign|rate|grant|output|return|deserves?|merits?|worth) "
            r"(?:(?:it|this|me|a|an|the|my|response|answer|output|only|always) ){0,4}"
            r"(?:(?:score|rating|grade|mark) of (?:10|5|100|\[\[)"
            r"|(?:highest|maximum|perfect|full|top)(?: possible)? (?:score|rating|mark|grade)s?\b"
            r"|10/10|\[\[?10)"
        ),
    ),
    Sign(
        "judge_instruction",
        "(?:the|this) (?:evaluation|comparison|judging|grading) (?:is|has been|was) "
        "|rules of (?:the|this) (?:evaluation|comparison|judging|grading)"
        "|(?:runs?|running|conduct|conducting) this (?:evaluation|comparison)"
        "|end of (?:the |this )?(?:evaluation|judging|grading)|stop (?:evaluating|judging|grading)",
        re.compile(
            r"\b(?:(?:the|this) (?:evaluation|comparison|judging|grading) (?:is|has been|was) "
            r"(?:now )?(?:over|complete|completed|finished|done|ended)"
            r"|rules of (?:the|this) (?:evaluation|comparison|judging|grading)"
            r"|(?:run|runs|running|conduct|conducting) this (?:evaluation|comparison)"
            r"|end of (?:the |this )?(?:evaluation|judging|grading)|stop (?:evaluating|judging"
            r"|grading))\b"
        ),
    ),
    Sign(
        "judge_instruction",
        _SYSTEM_NOTE,
        re.compile(rf"(?:\A|(?<=\n)|(?<=[#*\[(>-])|(?<=[#*\[(>-] )){_SYSTEM_NOTE}\W{{0,3}}:"),
    ),
    Sign(
        "judge_instruction",
        "your (?:one|only|sole|new|real|true|actual) (?:task|job|duty|instruction)",
        re.compile(
            r"\byour (?:one|only|sole|new|real|true|actual) (?:task|job|duty|instruction)s? "
            r"(?:from (?:here|now)|is to (?:output|declare|choose|prefer|print|answer|say|give"
            r"|reply))"
        ),
    ),
    Sign(
        "template_echo",
        r"\[the (?:start|end) of |\[user question\]|\[\[a>>b\]\]|\[\[rating\]\]"
        r"|<\|the (?:start|end) of |<\|user prompt\|>",
    ),
    Sign(
        "template_echo",
        r"## model outputs|## best model|###score rubric|###task description|###feedback:"
        r"|# output \([ab]\)",
    ),
    Sign(
        "template_echo",
        r"form \(scores only\)|impartial judge|criterion by criterion|weigh the response on"
        "|alone on the (?:first|last) line",
    ),
    Sign(
        "forged_tag",
        rf"<{_SPACE}{{0,4}}/?{_SPACE}{{0,4}}(?:[^<>]{{1,16}}:)?(?:{_TAGS})",
        re.compile(rf"<\s{{0,4}}/?\s{{0,4}}(?:\w{{1,16}}:)?(?:{_TAGS})(?:_?\w)?\s{{0,4}}>"),
    ),
    Sign(
        "forged_tag",
        r"<\||</?s>|<</?sys>>|<(?:start|end)_of_turn>",
        # a control token that ends the text is a model's own, left in by whoever cut its reply
        re.compile(
            r"<(?:\|[\w ]{1,40}\|>|/?s>|</?sys>>|(?:start|end)_of_turn>)"
            r"(?=\s{0,9}[^\s<][^<]{3})"
        ),
    ),
    Sign("forged_tag", r"\[/?inst\]"),
    Sign(
        "forged_tag",
        "^#{2,4} ?(?:instruction|response|system|assistant) ?:|^(?:human|user|system): ",
        re.compile(
            r"^#{2,4} ?(?:instruction|response|system|assistant) ?:[ \t]*$"
            r"|^(?:human|user|system): .{1,400}\n\s{0,9}(?:assistant|ai):",
            re.MULTILINE,
        ),
    ),
    Sign(
        "forged_tag",
        _END_OF,
        re.compile(rf"[\[(*=-] ?{_END_OF}\b.{{0,20}}[\])*=-]"),
    ),
)
"""Every shape but those that need more than a pattern."""

UNSEEN_LETTERS = re.compile("(?<!\U0001f3f4)[\U000e0020-\U000e007e]{3}")
"""Letters of the tag block, which only models read, outside the flags that are made of them."""
UNSEEN_RUN = re.compile("[\u200b\u2060-\u2064\ufeff]{4}")
"""Marks without a width in a row, in which bits can be written."""
