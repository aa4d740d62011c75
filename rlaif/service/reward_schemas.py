"""What the API's OpenAPI document says of the bodies that trainers send and get."""

from __future__ import annotations

from rlaif.service.schemas import BESIDE, MAYBE_NAME, Schema

_MAYBE_NUMBERS: Schema = {"type": "array", "items": {"type": ["number", "null"]}}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
        "content": {"type": ["string", "array", "null"]},
        "tool_calls": {"type": ["array", "null"]},
    },
}
"""A message as trainers have it: blocks for content, calls of tools, and whatever else."""
_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": _MESSAGE}
_WORDS: Schema = {"anyOf": [{"type": "string"}, _MESSAGES]}
_OUTPUT: Schema = {
    "type": "object",
    "required": ["output"],
    "properties": {"output": {"type": "array"}},
}
"""A response object: its text is in the text parts of its messages."""

REWARDS: Schema = {
    "type": "object",
    "required": ["prompts", "completions"],
    "properties": {
        "prompts": {"type": "array", "minItems": 1, "items": _WORDS},
        "completions": {"type": "array", "minItems": 1, "items": _WORDS},
        "references": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
        "by": {"enum": ["score", "comparison"]},
        "opponents": {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000},
        **BESIDE,
    },
    "additionalProperties": False,
}
REWARDS_GIVEN: Schema = {
    "type": "object",
    "required": ["rewards", "causes", "cost_usd"],
    "properties": {
        "rewards": _MAYBE_NUMBERS,
        "causes": {"type": "array", "items": {"type": ["string", "null"]}},
        "cost_usd": {"type": "number"},
    },
}
GET_REWARD: Schema = {
    "type": "object",
    "required": ["query", "prompts"],
    "properties": {"query": _TEXTS, "prompts": _TEXTS, "labels": {"type": ["array", "null"]}},
}
REWARD_GOT: Schema = {
    "type": "object",
    "required": ["rewards", "scores", "extra_logs"],
    "properties": {
        "rewards": _NUMBERS,
        "scores": _NUMBERS,
        "extra_logs": {"type": "object", "additionalProperties": _NUMBERS},
    },
}
COMPARE_GROUP: Schema = {
    "type": "object",
    "required": ["conversation_history", "response_objs"],
    "properties": {
        "conversation_history": _MESSAGES,
        "response_objs": {"type": "array", "minItems": 2, "items": _OUTPUT},
        "principle": MAYBE_NAME,
    },
}
GROUP_COMPARED: Schema = {
    "type": "object",
    "required": ["rewards", "comparison_results", "metrics"],
    "properties": {
        "rewards": _NUMBERS,
        "comparison_results": {"type": "array", "items": {"type": "object"}},
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
