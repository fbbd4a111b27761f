"""Conversations through chat templates of several kinds."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from r2r.chat import check_template_options, encode_chat, encode_question, render
from r2r.errors import ConfigError

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
ANY_ROLE = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} {% endfor %}"
SYSTEM_FIRST = (  # a later system message is lost, as in several published templates
    "{% if messages[0].role == 'system' %}[system] {{ messages[0].content }} {% endif %}"
    "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }} {% endfor %}"
)
KNOWS_DEVELOPER = (
    "{% for m in messages %}{% if m.role == 'developer' %}<dev>{% endif %}{{ m.content }}"
    "{% endfor %}"
)
USER_ONLY = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
WITHOUT_THOUGHTS = (
    "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<none>{% endif %}"
)


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


def said(tokenizer, template, *turns, **options):
    tokenizer.chat_template = template
    return render(tokenizer, [{"role": r, "content": c} for r, c in turns], options)


def test_a_conversation_is_encoded_as_transformers_does(tokenizer):
    turns = [("user", "hi"), ("assistant", "yes"), ("user", "How many?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    expected = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert encode_chat(tokenizer, messages, {}) == list(expected)
    assert encode_question(tokenizer, "hi", {}) == encode_chat(tokenizer, messages[:1], {})


def test_developer_is_system_where_only_that_is_known(tokenizer):
    turn = ("developer", "be brief")
    assert said(tokenizer, ANY_ROLE, turn) == "[system] be brief "
    assert said(tokenizer, SYSTEM_FIRST, turn, ("user", "hi")) == "[system] be brief [user] hi "
    assert said(tokenizer, KNOWS_DEVELOPER, turn) == "<dev>be brief"


@pytest.mark.parametrize(
    ("template", "roles", "lost"),
    [
        (USER_ONLY, ["system", "user"], 0),
        (USER_ONLY, ["developer", "user"], 0),
        (USER_ONLY, ["user", "assistant", "user"], 1),
        (SYSTEM_FIRST, ["system", "user", "system"], 2),
    ],
)
def test_what_a_template_would_drop_is_refused(tokenizer, template, roles, lost):
    with pytest.raises(ConfigError, match=rf"messages\.{lost}\.role must be"):
        said(tokenizer, template, *((role, "words") for role in roles))


def test_words_that_stand_in_the_prompt_anyway_hide_no_drop(tokenizer):
    with pytest.raises(ConfigError, match=r"messages\.0\.role"):
        said(tokenizer, USER_ONLY, ("system", "hi"), ("user", "hi"))


def test_empty_and_trimmed_words_and_thoughts_are_not_lost(tokenizer):
    assert said(tokenizer, ANY_ROLE, ("user", "  hi\n")) == "[user] hi "
    assert said(tokenizer, USER_ONLY, ("assistant", ""), ("user", "hi")) == "hi"
    assert said(tokenizer, WITHOUT_THOUGHTS, ("assistant", "hm</think>yes")) == "yes"


def test_a_refusal_of_the_template_is_one_line(tokenizer):
    with pytest.raises(ConfigError, match="refuses the messages: roles must be user or assistant"):
        encode_chat(tokenizer, [{"role": "system", "content": "be brief"}], {})


def test_only_options_that_the_template_reads(tokenizer):
    turn = ("user", "hi")
    assert said(tokenizer, WITHOUT_THOUGHTS, turn, enable_thinking=False) == "hi<none>"
    check_template_options(tokenizer, {"enable_thinking": False}, "chat_template_kwargs")
    for name in ("enable_thinkin", "messages", "add_generation_prompt", "tokenize"):
        with pytest.raises(ConfigError, match=f"chat_template_kwargs must be .* got '{name}'"):
            check_template_options(tokenizer, {name: True}, "chat_template_kwargs")
