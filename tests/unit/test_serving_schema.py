"""What clients may send, and that nothing else gets through."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2r.config import ServeConfig
from r2r.errors import ConfigError
from r2r.serving.parsing import parse
from r2r.serving.schema import ApiError, ChatRequest, CompletionRequest
from r2r.serving.server import api_key, listen

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "m", "prompt": "hi"}


def refused(model, body, **fields):
    raw = body if isinstance(body, bytes) else json.dumps(body | fields).encode()
    with pytest.raises(ApiError) as error:
        parse(model, raw)
    assert error.value.status == 400
    return error.value.body()["error"]


def test_what_openai_takes():
    asked = parse(
        ChatRequest,
        json.dumps(CHAT | {
            "max_completion_tokens": 5, "temperature": 0, "top_p": 0.5, "n": 2, "seed": -3,
            "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True},
            "logprobs": False, "user": "u", "threshold": 0.5, "return_trace": True,
            "frequency_penalty": 0, "presence_penalty": 0.0,
        }).encode(),
    )  # fmt: skip
    assert (asked.limit, asked.stops) == (5, ("a", "b"))
    drawn = asked.samplings(2, 5)
    assert [(s.temperature, s.top_p, s.seed) for s in drawn] == [(0, 0.5, -3), (0, 0.5, -2)]


def test_openais_defaults():
    (drawn,) = parse(ChatRequest, json.dumps(CHAT).encode()).samplings(1, 7)
    assert (drawn.max_new_tokens, drawn.temperature, drawn.top_p) == (7, 1.0, 1.0)
    assert parse(CompletionRequest, json.dumps(COMPLETION).encode()).limit == 16


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
def test_every_kind_of_prompt(prompt):
    body = json.dumps(COMPLETION | {"prompt": prompt}).encode()
    prompts = parse(CompletionRequest, body).prompts
    assert prompts == (prompt if prompt in (["a", "b"], [[1, 2], [3]]) else [prompt])


def test_text_parts_are_one_text():
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = parse(
        ChatRequest,
        json.dumps(CHAT | {"messages": [{"role": "user", "content": content}]}).encode(),
    )
    assert asked.messages[0].plain() == {"role": "user", "content": "ab"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"foo": 1}, "foo"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 1000}, "n"),
        ({"n": True}, "n"),
        ({"n": "1"}, "n"),
        ({"n": 10**400}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"threshold": -1}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"foo": 1}}, "stream_options.foo"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_each_mistake_is_named(fields, param):
    told = refused(ChatRequest, CHAT, **fields)
    assert told["type"] == "invalid_request_error"
    assert told["param"].startswith(param)
    assert param.split(".")[0] in told["message"]


NEUTRAL = {
    "response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "metadata": {"a": "b"},
    "store": False, "user": "u", "top_k": -1, "min_p": 0, "repetition_penalty": 1,
    "ignore_eos": False, "logprobs": False, "top_logprobs": 0, "n": 1, "skip_special_tokens": True,
    "parallel_tool_calls": True, "service_tier": "auto", "logit_bias": {}, "min_tokens": 0,
    "stop": [], "stop_token_ids": [], "functions": [], "function_call": "auto", "best_of": 1,
    "modalities": ["text"], "prediction": {"type": "content", "content": "a"}, "echo": False,
    "verbosity": "medium", "add_generation_prompt": True, "continue_final_message": False,
    "spaces_between_special_tokens": False, "include_stop_str_in_output": False, "priority": 0,
    "presence_penalty": 0, "frequency_penalty": 0.0, "length_penalty": 1.0,
    "use_beam_search": False,
    "prompt_cache_key": "k", "safety_identifier": "s", "rid": "r", "request_id": "r",
}  # fmt: skip


def test_fields_of_other_clients_where_they_change_nothing():
    asked = parse(ChatRequest, json.dumps(CHAT | NEUTRAL).encode())
    plain = parse(ChatRequest, json.dumps(CHAT | {"seed": 1}).encode())
    assert asked.limit is None and asked.stops == () and asked.template_options == {}
    (drawn,) = asked.model_copy(update={"seed": 1}).samplings(1, 7)
    assert [drawn] == plain.samplings(1, 7)
    of_chat = {"tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs",
               "parallel_tool_calls", "modalities", "prediction", "verbosity",
               "add_generation_prompt", "continue_final_message"}  # fmt: skip
    both = {name: value for name, value in NEUTRAL.items() if name not in of_chat}
    parse(CompletionRequest, json.dumps(COMPLETION | both | {"suffix": ""}).encode())


@pytest.mark.parametrize("model", [ChatRequest, CompletionRequest])
def test_a_field_at_null_is_a_field_left_out(model):
    body = CHAT if model is ChatRequest else COMPLETION
    nulls = dict.fromkeys([*model.model_fields, "a_field_of_next_year"]) | body
    assert parse(model, json.dumps(nulls).encode()) == parse(model, json.dumps(body).encode())


def test_sampling_by_rank_is_taken_where_an_answer_is_greedy():
    for fields in ({"top_k": 1}, {"top_k": 20}, {"min_p": 0.1}):
        parse(ChatRequest, json.dumps(CHAT | {"temperature": 0} | fields).encode())
        (name,) = fields
        assert refused(ChatRequest, CHAT, **fields)["param"] == name
        assert refused(ChatRequest, CHAT, temperature=0.5, **fields)["param"] == name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 20}, "top_k must be -1 or 0, all tokens, where temperature is above 0, got 20"),
        ({"ignore_eos": 1}, "ignore_eos must be true or false, got 1"),
        ({"repetition_penalty": 1.1}, "repetition_penalty must be 1, got 1.1"),
        ({"skip_special_tokens": False}, "skip_special_tokens must be true, got false"),
        (
            {"response_format": {"type": "json_object"}},
            'response_format must be {"type": "text"}, got {"type": "json_object"}: answers',
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            'response_format must be {"type": "text"}, got {"type": "json_schema"',
        ),
        ({"tools": [{"type": "function"}]}, "tools must be an empty list, got"),
        ({"tool_choice": "required"}, 'tool_choice must be "none" or "auto", got "required"'),
        ({"guided_regex": "a+"}, "guided_regex must be left out, got"),
        ({"best_of": 3}, "best_of must be n, here 1, got 3"),
        ({"service_tier": "flex"}, 'service_tier must be "auto" or "default", got "flex"'),
        ({"stop": 5}, "stop must be a text of 1 to 1000 characters, or a list of at most 4, got 5"),
        ({"temperature": "0"}, 'temperature must be a number from 0 to 2, got "0"'),
        ({"temprature": 0}, "Unrecognized request argument supplied: temprature; did you mean tem"),
        ({"stream_options": {"include_usge": True}}, "stream_options.include_usge; did you mean"),
        (
            {"messages": [{"role": "wizard", "content": "hi"}]},
            'messages.0.role must be system, developer, user, assistant or tool, got "wizard"',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            'messages.0.content.0.type must be "text", got "image_url"',
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "messages.0.content must be a text or a list of text parts",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0.content must be a text or a list of text"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "messages.0.tool_calls must be an empty list, got",
        ),
        ({"messages": {}}, "messages must be a list with a message or more, got {}"),
    ],
)
def test_messages_name_what_is_allowed(fields, message):
    assert message in refused(ChatRequest, CHAT, **fields)["message"]


def test_completions_name_every_kind_of_prompt():
    told = refused(CompletionRequest, COMPLETION, prompt=[])["message"]
    assert "a text, a list of texts, token ids, or a list of lists of token ids" in told
    assert refused(CompletionRequest, COMPLETION, prompt=["a", 1])["param"] == "prompt"


@pytest.mark.parametrize(
    "more",
    [
        {"refusal": None, "annotations": [], "audio": None, "tool_calls": None},
        {"function_call": None, "tool_calls": [], "refusal": "", "name": "bot"},
        {"reasoning_content": "hm", "provider_specific_fields": None},
        {"content": None},
        {"content": [{"type": "text", "text": "yes", "annotations": None}]},
    ],
)
def test_an_answers_message_is_taken_back(more):
    messages = [*CHAT["messages"], {"role": "assistant", "content": "yes"} | more]
    asked = parse(ChatRequest, json.dumps(CHAT | {"messages": messages}).encode())
    turn = asked.messages[1].plain()
    assert turn["content"] == ("yes" if more.get("content", True) else "")
    assert turn.get("reasoning_content") == more.get("reasoning_content")


def test_options_of_the_chat_template():
    fields = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    asked = parse(ChatRequest, json.dumps(CHAT | fields).encode())
    assert asked.template_options == {"reasoning_effort": "low", "enable_thinking": False}


def test_logprobs_are_refused_with_the_reason():
    assert "return_trace" in refused(ChatRequest, CHAT, logprobs=True)["message"]
    assert "return_trace" in refused(CompletionRequest, COMPLETION, logprobs=1)["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "threshold"])
def test_numbers_that_are_none(number, field):
    raw = json.dumps(CHAT)[:-1] + f', "{field}": {number}}}'
    refused(ChatRequest, raw.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
        b'{"model": "m", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"n": ' + b"9" * 20_000 + b"}",
        b'{"model": "\\ud800", "messages": []}',
    ],
)  # fmt: skip
def test_hostile_bodies(raw):
    refused(ChatRequest, raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, "foo"})


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(["chat", "completion"]))
def test_any_json_is_a_request_or_a_clean_refusal(fields, kind):
    model, body = (ChatRequest, CHAT) if kind == "chat" else (CompletionRequest, COMPLETION)
    try:
        asked = parse(model, json.dumps(body | fields).encode())
    except ApiError as error:
        assert error.status == 400 and str(error)
        json.dumps(error.body())
    else:
        assert 1 <= (asked.n or 1) <= 128
        assert all(s.temperature >= 0 and 0 < s.top_p <= 1 for s in asked.samplings(2, 5))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_clean_refusal(raw):
    with pytest.raises(ApiError):
        parse(ChatRequest, raw)


def where(**fields):
    return ServeConfig(**({"host": "127.0.0.1", "port": 0} | fields))


def test_other_machines_need_a_key(monkeypatch):
    monkeypatch.delenv("R2R_KEY", raising=False)
    assert api_key(where()) is None
    with pytest.raises(ConfigError, match=r"serve\.api_key_env must be"):
        api_key(where(host="0.0.0.0"))
    with pytest.raises(ConfigError, match=r"R2R_KEY \(not set\)"):
        api_key(where(host="0.0.0.0", api_key_env="R2R_KEY"))
    monkeypatch.setenv("R2R_KEY", "secret")
    assert api_key(where(host="0.0.0.0", api_key_env="R2R_KEY")) == "secret"


def test_a_taken_port_is_one_line():
    with listen(where()) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            listen(where(port=port))
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:70000"):
        listen(where(port=70000))
