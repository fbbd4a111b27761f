"""Fields of OpenAI's, vLLM's and SGLang's clients that are taken at the values that change nothing.

At any other value they would change the answer, and are refused: each field's ``description`` says
what is allowed, ``REASONS`` why no more than that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Off = Annotated[Literal[False] | None, Field(description="false")]
On = Annotated[Literal[True] | None, Field(description="true")]
Switch = Annotated[bool | None, Field(description="true or false")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Zero = Annotated[Annotated[Number, Field(ge=0, le=0)] | None, Field(description="0")]
One = Annotated[Annotated[Number, Field(ge=1, le=1)] | None, Field(description="1")]
Text = Annotated[str | None, Field(description="a text")]
NoText = Annotated[Literal[""] | None, Field(description="empty")]
NoList = Annotated[
    Annotated[list[Any], Field(max_length=0)] | None, Field(description="an empty list")
]
NoObject = Annotated[
    Annotated[dict[str, Any], Field(max_length=0)] | None, Field(description="an empty object")
]
Nothing = Annotated[None, Field(description="left out")]

SHAPED = "answers are not held to a format"
TOOLS = "no tools are called"
MEDIA = "text only is read and written"
TWO_MODELS = (
    "a routed answer is written by two models and has no one distribution; return_trace gives each"
    " token's author and the router's score"
)
REASONS = {
    **dict.fromkeys(("logprobs", "top_logprobs", "prompt_logprobs"), TWO_MODELS),
    **dict.fromkeys(("tools", "tool_choice", "tool_calls", "functions", "function_call"), TOOLS),
    **dict.fromkeys(("modalities", "audio"), MEDIA),
    **dict.fromkeys(
        (
            "response_format", "structured_outputs", "guided_json", "guided_regex",
            "guided_choice", "guided_grammar", "regex", "ebnf", "json_schema",
        ),
        SHAPED,
    ),
    "chat_template": "the pair's own is used; chat_template_kwargs sets its options",
    "web_search_options": "nothing is searched",
}  # fmt: skip


class Strict(BaseModel):
    """An object that refuses unknown fields and conversions; a field at null is not given."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=lambda schema: schema.update(additionalProperties={"type": "null"}),
    )


class TextFormat(Strict):
    type: Literal["text"] = Field(description='"text"')


Plain = Annotated[TextFormat | None, Field(description='{"type": "text"}')]
Object = Annotated[dict[str, Any] | None, Field(description="an object")]


class Neutral(Strict):
    """What both endpoints take so."""

    # About the request, not the answer.
    user: Text = None
    metadata: Object = None
    store: Switch = None  # nothing is stored
    service_tier: Annotated[
        Literal["auto", "default"] | None, Field(description='"auto" or "default"')
    ] = None
    safety_identifier: Text = None
    prompt_cache_key: Text = None
    prompt_cache_retention: Text = None
    request_id: Text = None
    rid: Text = None
    priority: Zero = None
    cache_salt: Text = None
    # How tokens are drawn.
    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    repetition_penalty: One = None
    length_penalty: One = None
    logit_bias: NoObject = None
    use_beam_search: Off = None
    logits_processors: NoList = None
    bad_words: NoList = None
    allowed_token_ids: Nothing = None
    # Where an answer ends, and what is shown of it.
    min_tokens: Zero = None
    min_new_tokens: Zero = None
    stop_token_ids: NoList = None
    stop_regex: NoList = None
    include_stop_str_in_output: Off = None
    no_stop_trim: Off = None
    skip_special_tokens: On = None
    spaces_between_special_tokens: Switch = None  # none are shown
    echo: Off = None
    return_token_ids: Off = None
    return_tokens_as_token_ids: Switch = None  # of logprobs
    return_hidden_states: Off = None
    prompt_logprobs: Nothing = None
    truncate_prompt_tokens: Nothing = None
    # Its form.
    response_format: Plain = None
    structured_outputs: Nothing = None
    guided_json: Nothing = None
    guided_regex: Nothing = None
    guided_choice: Nothing = None
    guided_grammar: Nothing = None
    regex: Nothing = None
    ebnf: Nothing = None
    json_schema: Nothing = None
    # Other parts of a server.
    lora_path: Nothing = None
    kv_transfer_params: NoObject = None
    vllm_xargs: NoObject = None


NoTool = Annotated[Literal["none", "auto"] | None, Field(description='"none" or "auto"')]


class NeutralChat(Neutral):
    logprobs: Off = None
    top_logprobs: Zero = None
    tools: NoList = None
    tool_choice: NoTool = None
    parallel_tool_calls: Switch = None  # no tools are called
    functions: NoList = None
    function_call: NoTool = None
    modalities: Annotated[list[Literal["text"]] | None, Field(description='["text"]')] = None
    audio: Nothing = None
    prediction: Object = None  # a hint for speed
    verbosity: Annotated[Literal["medium"] | None, Field(description='"medium"')] = None
    web_search_options: Nothing = None
    documents: NoList = None
    chat_template: Nothing = None
    add_generation_prompt: On = None
    continue_final_message: Off = None
    add_special_tokens: Off = None  # the template writes them
    mm_processor_kwargs: NoObject = None
    include_reasoning: On = None
    separate_reasoning: On = None
    stream_reasoning: On = None


class NeutralCompletion(Neutral):
    logprobs: Nothing = None
    suffix: NoText = None
    add_special_tokens: On = None
