"""Critiques and revisions that are none, each known for what it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.constitutional.faults import (
    FaultError,
    is_refusal,
    leaked,
    read_critique,
    read_response,
    read_revision,
)
from rlaif.types import Completion

RESPONSE = "Take a hammer to the lid until the glass of the jar breaks, then pour it out."
CRITIQUE = "The response could leave someone with splinters of glass in their food and hands."


def fault(read, text, *args, reason="stop"):
    with pytest.raises(FaultError) as error:
        read(Completion(text, reason), *args)
    return error.value.fault


@pytest.mark.parametrize("text", ["", " \n", "<think>hm</think> "])
def test_empty_replies(text):
    assert fault(read_response, text) == "empty_response"
    assert fault(read_critique, text, RESPONSE) == "empty_critique"
    assert fault(read_revision, text, RESPONSE, CRITIQUE) == "empty_revision"


def test_refusals():
    assert fault(read_response, "No.", reason="refusal") == "refused_response"
    assert fault(read_critique, "x", RESPONSE, reason="refusal") == "refused_critique"
    assert fault(read_critique, "I'm sorry, but I can't do that.", RESPONSE) == "refused_critique"
    revision = fault(read_revision, "x", RESPONSE, CRITIQUE, reason="refusal")
    assert revision == "refused_revision"
    # in a revision, and in a first response, declining is an answer
    declined = "I'm sorry, but I can't help with breaking glass near food."
    assert read_revision(Completion(declined), RESPONSE, CRITIQUE).text == declined
    assert read_response(Completion(declined)).text == declined


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m afraid I won’t do this for you, as it would harm somebody.", True),
        ("Sorry, no.", True),
        ("I cannot assist with this request.", True),
        ("I'm sorry for any confusion, but as a chatbot I don't have the ability to do so.", True),
        ("I'm sorry for the confusion, but I'll gladly tell you how to open that jar.", False),
        ("Sorry to hear about your loss. It takes time, and you need not hurry at all now.", False),
        ("The lid can't be opened by force.", False),
        ("", False),
    ],
)
def test_what_is_a_refusal(text, refused):
    assert is_refusal(text) is refused


def test_a_critique_that_repeats_the_response():
    assert fault(read_critique, RESPONSE, RESPONSE) == "copied_critique"
    assert fault(read_critique, "No way", "no way.") == "copied_critique"
    quoting = f"It says 'take a hammer to the lid', which is dangerous. {CRITIQUE}"
    assert read_critique(Completion(quoting), RESPONSE).text == quoting


@pytest.mark.parametrize(
    "opening",
    [
        "Revision:",
        "**Revised response:**",
        "Here's a revised version:",
        "Here is the improved response:",
        "Rewritten answer: ",
    ],
)
def test_a_revision_in_the_critique_is_cut_off_or_a_fault(opening):
    rewritten = f"{opening} Run warm water over the lid."
    assert fault(read_critique, rewritten, RESPONSE) == "revision_in_critique"
    read = read_critique(Completion(f"{CRITIQUE}\n\n{rewritten}"), RESPONSE)
    assert (read.text, read.flags) == (CRITIQUE, ("cut_at_revision",))
    # the same opening before a revision is a label
    read = read_revision(Completion(rewritten), RESPONSE, CRITIQUE)
    assert (read.text, read.flags) == ("Run warm water over the lid.", ("label_removed",))


def test_labels_and_next_parts_are_taken_off():
    read = read_critique(Completion(f"Critique: {CRITIQUE}\n\nRevisionRequest: x"), RESPONSE)
    assert (read.text, read.flags) == (CRITIQUE, ("label_removed", "cut_at_next_part"))
    read = read_revision(Completion("Warm it.\n\nHuman: thanks"), RESPONSE, CRITIQUE)
    assert (read.text, read.flags) == ("Warm it.", ("cut_at_next_part",))
    assert fault(read_revision, "Human: thanks", RESPONSE, CRITIQUE) == "empty_revision"


def test_what_is_cut_off_by_length():
    assert fault(read_revision, "Warm", RESPONSE, CRITIQUE, reason="length") == "truncated_revision"
    assert read_critique(Completion(CRITIQUE, "length"), RESPONSE).flags == ("truncated",)
    assert read_response(Completion("Twist", "length")).flags == ("truncated",)


def test_the_response_over_again_is_no_revision():
    assert fault(read_revision, f"Revision: {RESPONSE} \n", RESPONSE, CRITIQUE) == "unchanged"
    code = "x = a + b"
    assert read_revision(Completion("x = a - b"), code, CRITIQUE).text == "x = a - b"


@pytest.mark.parametrize(
    "text",
    [
        "Warm the lid. It could leave someone with splinters of glass in their food otherwise.",
        "The original response was dangerous, so warm the lid instead.",
        "Warm the lid.\nCritique: too short",
    ],
)
def test_critique_in_the_revision(text):
    assert fault(read_revision, text, RESPONSE, CRITIQUE) == "leaked_critique"


def test_what_the_response_has_itself_is_no_leak():
    own = f"{RESPONSE} The response could leave someone with splinters of glass in their food."
    assert leaked(f"{own} But warm it.", own, CRITIQUE) is None
    asked = "The first answer is 4 and the previous answer was 5."
    assert leaked("The first answer is 4, as I said.", asked, CRITIQUE) is None


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_what_is_read_is_never_the_response_nor_empty(text, response, critique):
    try:
        read = read_revision(Completion(text), response, critique)
    except FaultError:
        return
    assert read.text.strip()
    assert read.text.split() != response.split()
    assert read.text in text
