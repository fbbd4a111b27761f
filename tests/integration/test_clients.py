"""Clients that people use, unmodified, on a live server; docs/serve.md names the versions that were
run. Where a client is not installed its test is skipped."""

import asyncio
import json
from pathlib import Path

import openai
import pytest
from live import Script, live, offer
from transformers import AutoTokenizer

from r2r.chat import encode_chat

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
THOUGHT, ANSWER = "Now 1+2=3.", "Answer: \\boxed{3}."
QUESTION = {"role": "user", "content": "What is 1+2?"}


@pytest.fixture(scope="module")
def url():
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    script = Script(tokenizer, f"{THOUGHT}</think>\n{ANSWER}")
    script.context = 2000

    def encode(messages, options):
        return encode_chat(tokenizer, messages, options)

    served, worker = offer(
        script, encode_chat=encode, max_prompt_tokens=1000, think=lambda _: ("<think>", "</think>")
    )
    with live(served, worker) as (address, _):
        yield f"{address}/v1"


def test_openai(url):
    client = openai.OpenAI(base_url=url, api_key="none")
    messages = [QUESTION]
    for _ in range(2):
        message = client.chat.completions.create(model="toy", messages=messages).choices[0].message
        assert (message.content, message.reasoning_content) == (ANSWER, THOUGHT)
        messages += [message, {"role": "user", "content": [{"type": "text", "text": "again"}]}]
    with client.chat.completions.stream(
        model="toy", messages=messages, stream_options={"include_usage": True}
    ) as stream:
        list(stream)
        final = stream.get_final_completion()
    assert final.choices[0].message.content == ANSWER
    messages[-1:] = [final.choices[0].message, QUESTION]
    assert client.chat.completions.create(model="toy", messages=messages).usage.total_tokens > 0

    async def streamed():
        own = openai.AsyncOpenAI(base_url=url, api_key="none")
        chunks = await own.chat.completions.create(model="toy", messages=[QUESTION], stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert asyncio.run(streamed()) == ANSWER
    with pytest.raises(openai.BadRequestError, match="no tools are called"):
        tool = {"type": "function", "function": {"name": "f"}}
        client.chat.completions.create(model="toy", messages=[QUESTION], tools=[tool])
    with pytest.raises(openai.BadRequestError, match="chat template refuses"):
        turn = {"role": "developer", "content": "be brief"}
        client.chat.completions.create(model="toy", messages=[turn, QUESTION])


def test_litellm(url, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    to = {"model": "openai/toy", "api_base": url, "api_key": "none"}
    first = litellm.completion(messages=[QUESTION], **to).choices[0].message
    assert (first.content, first.reasoning_content) == (ANSWER, THOUGHT)
    chunks = list(litellm.completion(messages=[QUESTION, first, QUESTION], stream=True, **to))
    second = litellm.stream_chunk_builder(chunks).choices[0].message
    turns = [QUESTION, first.model_dump(), QUESTION, second, QUESTION]
    third = asyncio.run(litellm.acompletion(messages=turns, temperature=0, n=1, **to))
    assert third.choices[0].message.content == ANSWER
    with pytest.raises(litellm.BadRequestError, match="response_format must be"):
        litellm.completion(messages=[QUESTION], response_format={"type": "json_object"}, **to)
    with pytest.raises(litellm.NotFoundError, match="this is 'toy'"):
        litellm.completion(messages=[QUESTION], **to | {"model": "openai/other"})


def test_langchain_openai(url):
    langchain = pytest.importorskip("langchain_openai")
    messages = pytest.importorskip("langchain_core.messages")
    client = langchain.ChatOpenAI(model="toy", base_url=url, api_key="none", temperature=0)
    first = client.invoke(QUESTION["content"])
    assert first.content == ANSWER
    streamed = None
    for chunk in client.stream([messages.HumanMessage("a"), first, messages.HumanMessage("b")]):
        streamed = chunk if streamed is None else streamed + chunk
    turns = [messages.HumanMessage("a"), first, messages.HumanMessage("b"), streamed]
    last = asyncio.run(client.ainvoke([*turns, messages.HumanMessage("c")]))
    assert last.content == streamed.content == ANSWER
    completions = langchain.OpenAI(model="toy", base_url=url, api_key="none", max_tokens=3)
    assert completions.invoke("a") == "Now 1+"
    with pytest.raises(openai.BadRequestError, match="response_format must be"):
        client.with_structured_output({"title": "a", "type": "object", "properties": {}}).invoke(
            "a"
        )


def test_llm(url, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    llm = pytest.importorskip("llm")
    listed = json.dumps([{"model_id": "r2r", "model_name": "toy", "api_base": url}])
    (tmp_path / "extra-openai-models.yaml").write_text(listed)  # JSON is YAML
    conversation = llm.get_model("r2r").conversation()
    assert [conversation.prompt("a", key="none").text().strip() for _ in range(2)] == [ANSWER] * 2
    assert conversation.prompt("a", key="none", stream=False).text().strip() == ANSWER

    async def awaited():
        return await llm.get_async_model("r2r").prompt("a", key="none").text()

    assert asyncio.run(awaited()).strip() == ANSWER
    with pytest.raises(Exception, match="chat template refuses"):
        llm.get_model("r2r").prompt("a", system="be brief", key="none").text()


def test_lm_evals_local_chat_completions(url, tmp_path):
    pytest.importorskip("tenacity")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "What is 1+2?", "answer": "3"}\n' * 3)
    task = {
        "task": "sums", "dataset_path": "json", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(problems)}, "cache_dir": str(tmp_path)},
        "output_type": "generate_until", "doc_to_text": "{{question}}",
        "doc_to_target": "answer", "num_fewshot": 0,
        "generation_kwargs": {"until": ["</s>"], "max_gen_toks": 60, "temperature": 0},
        "filter_list": [
            {"name": "box", "filter": [
                {"function": "regex", "regex_pattern": "boxed\\{(\\d+)\\}"},
                {"function": "take_first"},
            ]},
        ],
        "metric_list": [{"metric": "exact_match"}],
    }  # fmt: skip
    results = simple_evaluate(
        model="local-chat-completions",
        model_args={"model": "toy", "base_url": f"{url}/chat/completions", "num_concurrent": 2},
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    assert results["results"]["sums"]["exact_match,box"] == 1.0
