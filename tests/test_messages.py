"""What users read in errors and warnings is short."""

from __future__ import annotations

import ast

from support.messages import messages, text_of
from support.pages import MOST_WORDS, sentences


def test_a_sentence_of_a_message_is_short() -> None:
    found = list(messages())
    assert len(found) > 200
    assert [(place, one) for place, text in found for one in sentences(text) if len(one.split()) > MOST_WORDS] == []


def test_a_message_is_read_with_one_word_for_each_part_in_braces() -> None:
    call = ast.parse('f"{name} should be " + f"{more()}, but got {given!r}"', mode="eval").body
    assert text_of(call) == "X should be X, but got X"
    assert text_of(ast.parse("3 + 4", mode="eval").body) == ""
