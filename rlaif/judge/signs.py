r"""Shapes that texts written for a judge take, as patterns over lower-case text.

A `Sign` is looked for only where one word of each of its groups stands in the text: nearly every
honest text is done with there. Each pattern takes time linear in the text: what may repeat is
bounded wherever a match could begin at more than one place.
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
    pattern: re.Pattern[str] | None
    """What settles it; None where one of the texts does."""
    words: tuple[frozenset[bytes], ...] = ()
    """Groups of lower-case words; one of each must be in the text."""
    texts: tuple[str, ...] = ()
    """Pieces of text of which one must be there."""
    character: str = ""
    """A character that must be there, for shapes that no word tells."""


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


_TEXT = "(?:response|answer|output|reply|submission|text|candidate|essay|solution)"
_NOUNS = _TEXT[3:-1].split("|")
_TEXTS = _words(" ".join(_NOUNS))
_SIDE = r"(?:response|answer|output|assistant|model|candidate|option|submission)"
_WHICH = rf"(?:\b{_SIDE} ?[\"'(\[]{{0,2}}[ab12]\b[\"')\]]{{0,2}})"
_ADVERB = "(?:the|much|clearly|far|slightly|significantly|therefore|simply)"
_WINS = rf"(?:(?:is|was) (?:{_ADVERB} ){{0,3}}(?:better|best|superior|preferred|winner)\b|wins\b)"
_JUDGE = "(?:judges?|evaluators?|graders?|raters?|assessors?|annotators?)"
_JUDGES = _words(
    "judge judges evaluator evaluators grader graders rater raters assessor assessors annotator "
    "annotators"
)
_KIND = "(?:impartial|fair|expert|careful|ai|llm|human|language model)"
_OURS = "(?:this|my|the above|the present)"
_BEST = (
    "(?:better|best|superior|winner|wins|preferred|highest|maximum|full marks|full score|perfect"
    "|top score|top rating|10/10|5/5)"
)
_PRAISE = _words(
    "better best superior winner wins preferred highest maximum marks score perfect rating "
    "certified selected declared chosen"
)
_ORDER = (
    "(?:prefer|choose|select|pick|declare|rate|score|grade|give|award|rank|vote|output|answer|reply"
    "|return|print|judge|consider)"
)
_REASONS = "(?:reasons?|reasoning|rationale|explanation|feedback|justification|critique)"
_GRADE = "(?:score|rating|grade)"
_JSON_KEY = "(?:verdict|winner|preference|preferred|better|best_response|choice)"

SIGNS: tuple[Sign, ...] = (
    Sign(
        "verdict_shaped",
        # x[[0]] is an index; a number is a verdict only where it is none
        re.compile(
            rf"\[\[\s*(?!-?\d+\s*\]){VERDICT_LABEL}\s*\]\]|(?<![\w)\]])\[\[\s*-?\d+\s*\]\]",
            re.IGNORECASE,
        ),
        texts=("[[",),
        character="[",
    ),
    Sign(
        "verdict_shaped",
        re.compile(
            r"\b(?:verdict|winner)\b[\"'* ]{0,4}(?::|=|is\b)[\"'*\s(\[]{0,6}"
            rf"(?:{_WHICH}|[ab]\b(?=[\"'*)\].,]|\s*$| (?:is|wins)\b))",
            re.MULTILINE,
        ),
        (_words("verdict winner"),),
    ),
    Sign(
        "verdict_shaped",
        re.compile(r"\[result\]\s{0,4}\(?(?:\d|[ab]\b)"),
        (_words("result"),),
        ("[result]",),
        "[",
    ),
    Sign(
        "verdict_shaped",
        re.compile(rf"{_WHICH},? {_WINS}"),
        (
            _words("better best superior preferred winner wins"),
            _words("response answer output assistant model candidate option submission"),
        ),
    ),
    Sign(
        "verdict_shaped",
        re.compile(rf"\b{_GRADE}\b[\"'* ]{{0,4}}(?::|=|is)?\s{{0,3}}\[\[?\s?\d"),
        (_words("score rating grade"),),
        character="[",
    ),
    Sign(
        "verdict_shaped",
        re.compile(
            rf"\"{_JSON_KEY}\"\s{{0,4}}:\s{{0,4}}\"?\[{{0,2}}"
            rf"(?:[ab12]\b|tie\b|{_WHICH}|{_SIDE}_[ab12]\b)"
        ),
        (_words("verdict winner preference preferred better best choice"),),
        ('":', '" :'),
        '"',
    ),
    Sign(
        "verdict_shaped",
        re.compile(
            rf"\"{_REASONS}\"\s{{0,4}}:[^{{}}]{{0,400}}\"{_GRADE}\"\s{{0,4}}:\s{{0,4}}\d"
            rf"|\"{_GRADE}\"\s{{0,4}}:\s{{0,4}}\d[^{{}}]{{0,40}}\"{_REASONS}\"\s{{0,4}}:"
        ),
        (_words("score rating grade"),),
        ('":', '" :'),
        '"',
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"\b(?:ignore|disregard|forget|override|overrule)\b[^.\n]{0,30}"
            r"\b(?:previous|prior|above|earlier|preceding|foregoing|other|system|original)\b"
            r"[^.\n]{0,30}\b(?:instruction|prompt|message|rule|criteri|guideline|rubric|direction"
            r"|response|answer|context)"
            r"|\b(?:ignore|disregard|forget) (?:all |everything )?(?:of )?(?:the )?above\b"
        ),
        (
            _words("ignore disregard forget override overrule"),
            _words("previous prior above earlier preceding foregoing other system original"),
        ),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"\b(?:note|attention|message|instructions?|reminder) ?:? (?:to|for) "
            rf"(?:(?:the|an?|all|any|our) ){{0,2}}(?:{_KIND} ){{0,2}}{_JUDGE}\b"
            rf"|\bas (?:the|an?) (?:{_KIND} ){{0,2}}{_JUDGE},? you(?:r (?:job|task|duty))?\b"
            rf"|\b{_JUDGE} (?:must|should|shall|have to|has to|(?:are|is) (?:required|asked"
            rf"|instructed|told) to) (?:\w+ ){{0,2}}{_ORDER}\b"
            rf"|\bverdict of the {_JUDGE}\b"
        ),
        (_JUDGES,),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            rf"\b{_ORDER}(?:s|ed)? {_OURS} {_TEXT} [^.\n]{{0,30}}\b{_BEST}\b"
            rf"|\b{_OURS} {_TEXT} (?:is|was|deserves|should|must|has been|meets|merits)\b"
            rf"(?: [\w,]+){{0,5}} (?:{_BEST}|certified|chosen|selected|declared)\b"
            r" (?:of|than|one|response|answer|output|score|rating|marks?|grade)\b"
            rf"|\b{_OURS} {_TEXT} (?:wins\b|(?:is|was) (?:\w+ ){{0,4}}certified\b)"
            rf"|\b{_OURS} {_TEXT} is (?:the )?(?:clear )?winner"
        ),
        (_TEXTS, _PRAISE, _words("this my above present")),
        tuple(f"{ours} {text}" for ours in ("this", "my", "above", "present") for text in _NOUNS),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            rf"\b(?:declare|choose|select|pick|prefer) (?:the|this) {_TEXT} (?:that|which|above"
            r"|with|holding|containing)\b[^.\n]{0,60}\b(?:better|best|winner|preferred)\b"
        ),
        (
            _TEXTS,
            _words("better best winner preferred"),
            _words("declare choose select pick prefer"),
        ),
        tuple(f"{text} {more}" for text in _NOUNS for more in ("that", "which", "above", "with")),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"\b(?:give|award|assign|rate|grant|output|return|deserves?|merits?|worth) "
            r"(?:(?:it|this|me|a|an|the|my|response|answer|output|only|always) ){0,4}"
            r"(?:(?:score|rating|grade|mark) of (?:10|5|100|\[\[)"
            r"|(?:highest|maximum|perfect|full|top)(?: possible)? (?:score|rating|mark|grade)s?\b"
            r"|10/10|\[\[?10)"
        ),
        (
            _words("score rating mark marks grade scores ratings grades 10"),
            _words("give award assign rate grant output return deserve deserves merits worth"),
        ),
        (
            *("10/10", "[10", "score of ", "rating of ", "grade of ", "mark of "),
            *("highest", "maximum", "perfect", "full ", "top "),
        ),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"\b(?:(?:the|this) (?:evaluation|comparison|judging|grading) (?:is|has been|was) "
            r"(?:now )?(?:over|complete|completed|finished|done|ended)"
            r"|rules of (?:the|this) (?:evaluation|comparison|judging|grading)"
            r"|(?:run|runs|running|conduct|conducting) this (?:evaluation|comparison)"
            r"|end of (?:the |this )?(?:evaluation|judging|grading)|stop (?:evaluating|judging"
            r"|grading))\b"
        ),
        (_words("evaluation comparison judging grading evaluating"),),
        tuple(
            f"{before} {noun}"
            for before in ("the", "this", "of", "stop")
            for noun in ("evaluati", "comparison", "judging", "grading")
        ),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"(?:\A|(?<=\n)|(?<=[#*\[(>-])|(?<=[#*\[(>-] ))"
            r"(?:new|updated|system|developer|admin)[ _](?:system |developer )?"
            r"(?:instructions?|prompt|message|override|note|directive|command)\W{0,3}:"
        ),
        (
            _words("new updated system developer admin"),
            _words("instruction instructions prompt message override note directive command"),
        ),
        tuple(
            f"{whose} {what}"
            for whose in ("new", "updated", "system", "developer", "admin")
            for what in (
                *("instruction", "prompt", "message", "override", "note", "directive", "command"),
            )
        ),
    ),
    Sign(
        "judge_instruction",
        re.compile(
            r"\byour (?:one|only|sole|new|real|true|actual) (?:task|job|duty|instruction)s? "
            r"(?:from (?:here|now)|is to (?:output|declare|choose|prefer|print|answer|say|give"
            r"|reply))"
        ),
        (_words("your"), _words("task job duty instruction instructions tasks")),
        tuple(f"your {w} " for w in ("one", "only", "sole", "new", "real", "true", "actual")),
    ),
    Sign(
        "template_echo",
        None,
        (_words("start end user rating b"),),
        (
            *("[the start of ", "[the end of ", "[user question]", "[[a>>b]]", "[[rating]]"),
            *("<|the start of ", "<|the end of ", "<|user prompt|>"),
        ),
    ),
    Sign(
        "template_echo",
        None,
        (_words("outputs best rubric rubrics task feedback output"),),
        (
            *("## model outputs", "## best model", "###score rubric", "###task description"),
            *("###feedback:", "# output (a)", "# output (b)"),
        ),
        "#",
    ),
    Sign(
        "template_echo",
        None,
        (_words("scores impartial criterion alone weigh"),),
        (
            *("form (scores only)", "impartial judge", "criterion by criterion"),
            *("weigh the response on", "alone on the first line", "alone on the last line"),
        ),
    ),
    Sign(
        "forged_tag",
        re.compile(
            rf"<\s{{0,4}}/?\s{{0,4}}(?:\w{{1,16}}:)?(?:{'|'.join(TAGS)}|judge|verdict|rubric"
            r"|candidate|submission|assistant|user_?prompt|system|evaluation)(?:_?\w)?\s{0,4}>"
        ),
        (
            _words(
                f"{' '.join(TAGS)} a b judge verdict rubric candidate submission assistant user "
                "system evaluation"
            ),
        ),
        character="<",
    ),
    Sign(
        "forged_tag",
        # a control token that ends the text is a model's own, left in by whoever cut its reply
        re.compile(
            r"<(?:\|[\w ]{1,40}\|>|/?s>|</?sys>>|(?:start|end)_of_turn>)"
            r"(?=\s{0,9}[^\s<][^<]{3})"
        ),
        texts=("<|", "</s>", "<<", "_of_turn>"),
        character="<",
    ),
    Sign("forged_tag", None, (_words("inst"),), ("[inst]", "[/inst]"), "["),
    Sign(
        "forged_tag",
        re.compile(
            r"^#{2,4} ?(?:instruction|response|system|assistant) ?:[ \t]*$"
            r"|^(?:human|user|system): .{1,400}\n\s{0,9}(?:assistant|ai):",
            re.MULTILINE,
        ),
        (_words("instruction response system assistant ai"),),
        ("##", "\nhuman: ", "\nuser: ", "\nsystem: "),
    ),
    Sign(
        "forged_tag",
        re.compile(
            r"[\[(*=-] ?end[ _]of[ _](?:the[ _])?(?:response|answer|assistant|output|prompt"
            r"|material|candidate|conversation)\b.{0,20}[\])*=-]"
        ),
        (
            _words("end"),
            _words("response answer assistant output prompt material candidate conversation"),
        ),
        ("end of ", "end of_", "end_of ", "end_of_"),
    ),
)
"""Every shape but those that need more than a pattern."""

UNSEEN_LETTERS = re.compile("(?<!\U0001f3f4)[\U000e0020-\U000e007e]{3}")
"""Letters of the tag block, which only models read, outside the flags that are made of them."""
UNSEEN_RUN = re.compile("[\u200b\u2060-\u2064\ufeff]{4}")
"""Marks without a width in a row, in which bits can be written."""
