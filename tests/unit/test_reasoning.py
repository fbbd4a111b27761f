"""Where the reasoning ends: closing tokens that are special, prompts that have closed it already,
and chat answers in two parts."""

import asyncio
import json
import shutil
from pathlib import Path

import httpx
import openai
import pytest
from live import Script, live, offer
from lm_eval.api.instance import Instance
from tokenizers import AddedToken
from transformers import AutoTokenizer

from r2r import pairs
from r2r.chat import encode_question
from r2r.engines.base import Decoded
from r2r.evaluation.adapter import R2RLM
from r2r.labeling.respond import Query, respond
from r2r.pairs import ModelPair
from r2r.policies.base import Generator, Prompt
from r2r.serving.reasoning import Reasoning
from r2r.serving.text import Piece, StreamedText
from r2r.stages.compose import compose
from r2r.trace import Step

NANO = Path(pairs.__file__).parent / "assets" / "nano"
CLOSED = "{{ '<|user|>' + messages[0]['content'] + '<|assistant|><think>\\n\\n</think>\\n\\n' }}"


def pair_of(folder, special, template=None):
    """The nano pair, its think tokens marked special or not."""
    shutil.copytree(NANO, folder)
    for name in ("slm", "llm"):
        tokenizer = AutoTokenizer.from_pretrained(folder / name)
        for text in ("<think>", "</think>") if special else ():
            tokenizer.add_tokens([AddedToken(text, special=True, normalized=False)])
        tokenizer.chat_template = template or tokenizer.chat_template
        tokenizer.save_pretrained(folder / name)
    paths = [f"pair.{name}.path={folder / name}" for name in ("slm", "llm")]
    think = ["pair.think_start='<think>'", "pair.think_end='</think>'"]
    return ModelPair(compose(["pair=local", *paths, *think])[0].pair, folder / "known")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "special"])
def pair(request, tmp_path_factory):
    return pair_of(tmp_path_factory.mktemp("pair") / "models", request.param)


class Says(Generator):
    """Answers a text."""

    def __init__(self, tokenizer, text):
        super().__init__(tokenizer=tokenizer, context=500, concurrency=4)
        self.text, self.asked = text, []

    async def write(self, prompt, budget, add, spent):
        self.asked.append(prompt)
        stop, written = self.stop_check(prompt), []
        for token in [*self.tokenizer(self.text, add_special_tokens=False).input_ids, 4]:
            written.append(token)
            add(Step(token, "slm"))
            if stop and stop(written):
                return "stop"
        return "eos"


def asked(generator, pair, until=()):
    model = R2RLM(
        generator, pair.encode, render=str, think_end=pair.think_end, max_new_tokens=99,
        temperature=0.0, top_p=1.0, seed=0, stats=lambda trace: {},
    )  # fmt: skip
    request = Instance("generate_until", {}, ("1+1?", {"until": list(until)}), 0, ("r2r_t", 0, 1))
    return model.generate_until([request])[0]


def test_the_closing_token_is_found_whether_special_or_not(pair):
    generator = Says(pair.tokenizer, "I think 3.</think>Answer: 2.")
    answer = asked(generator, pair)
    assert answer == "I think 3.</think>Answer: 2."
    assert answer.final == "Answer: 2."


def test_other_special_tokens_are_no_text(pair):
    tokens = pair.tokenizer("<|user|>a</think>b<|end|>", add_special_tokens=False).input_ids
    assert pair.tokenizer.decode(tokens, skip_special_tokens=True) == "a</think>b"
    assert pair.tokenizer.decode(tokens) == "<|user|>a</think>b<|end|>"
    streamed = StreamedText(pair.tokenizer, ())
    pieces = [piece for token in tokens for piece in streamed.add(Step(token, "slm"))]
    assert "".join(p.text for p in [*pieces, *streamed.end()]) == "a</think>b"


def test_stop_strings_count_behind_the_reasoning(pair):
    answer = asked(Says(pair.tokenizer, "so 3. so</think>Answer: 2. so 4."), pair, [" so"])
    assert answer == "so 3. so</think>Answer: 2."


@pytest.mark.parametrize(
    "end, closed",
    [
        ("<think>", False),
        ("<think>\n\n</think>\n\n", True),
        ("</think>", True),
        ("what is </think><|assistant|>", False),
        ("what is </think>?", False),
        ("\n\n", False),
    ],
)
def test_a_prompt_may_close_the_reasoning_itself(pair, end, closed):
    prompt = pair.tokenizer(f"<|user|>1+1?{end}").input_ids
    assert pair.think_end(prompt) == (None if closed else "</think>")


def test_an_answer_without_reasoning_is_graded_and_stopped_whole(tmp_path):
    pair = pair_of(tmp_path / "models", True, CLOSED)
    generator = Says(pair.tokenizer, "It is 2. Next")
    answer = asked(generator, pair, ["Next"])
    assert answer.final == answer == "It is 2. "
    assert generator.asked[0].after == ""


def test_an_answer_without_reasoning_is_labelled():
    class Answers:
        async def decode(self, request):
            return Decoded([8, 9, 4], "eos")

    def left_out(thinks):
        query = Query("a", [1], "?", thinks=thinks)
        options = {"budget": 9, "think_end": 7, "session": 0, "on_tokens": lambda *_: None}
        return asyncio.run(respond(Answers(), query, **options))[1]

    assert left_out(thinks=True) == "no_think_end"
    assert left_out(thinks=False) is None


@pytest.mark.parametrize("size", [1, 2, 99])
@pytest.mark.parametrize(
    "start, end, texts, reasoning, content",
    [
        ("<think>", "</think>", ["<think>", "\n", "a ", "b", "</think>", "\n\n", "c"], "a b", "c"),
        (None, "</think>", ["a", "</think>", "c"], "a", "c"),
        ("<think>", "</think>", ["a", " <", "b"], "a <b", ""),
        ("<think>", "</think>", ["</think>", "c", "</think>"], "", "c</think>"),
        (None, "</think>", ["a", "\ufffd</think>\n", "c"], "a\ufffd", "c"),
        (None, None, ["a", "</think>", "c"], "", "a</think>c"),
    ],
)  # fmt: skip
def test_reasoning_and_content_stream_apart(size, start, end, texts, reasoning, content):
    parted, said = Reasoning(start, end), {"reasoning_content": "", "content": ""}
    pieces = [Piece(Step(0, "slm"), text) for text in texts]
    for first in range(0, len(pieces), size):
        for name, text in parted.split(pieces[first : first + size]).items():
            assert text
            said[name] += text
    assert said == {"reasoning_content": reasoning, "content": content}


@pytest.fixture(scope="module")
def url(pair):
    script = Script(pair.tokenizer, "Now 1+2=3.</think>\n\nAnswer: 3.")

    def think(prompt):
        return "<think>", pair.think_end(prompt)

    def encode_chat(messages, *_):
        return encode_question(pair.tokenizer, messages[0]["content"], {})

    with live(*offer(script, think=think, encode_chat=encode_chat)) as (address, _):
        yield address


def chat(question):
    return {"model": "toy", "messages": [{"role": "user", "content": question}]}


def test_a_chat_answer_has_two_parts(url):
    api = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    message = api.chat.completions.create(**chat("1+2?")).choices[0].message
    assert message.reasoning_content == "Now 1+2=3."
    assert message.content == "Answer: 3."
    cut = api.chat.completions.create(**chat("1+2?"), max_tokens=3).choices[0].message
    assert (bool(cut.reasoning_content), cut.content) == (True, "")
    told = {"reasoning_content": "", "content": ""}
    for chunk in api.chat.completions.create(**chat("1+2?"), stream=True):
        for name in told:
            told[name] += getattr(chunk.choices[0].delta, name, None) or ""
    assert told == {"reasoning_content": "Now 1+2=3.", "content": "Answer: 3."}


def test_a_stream_has_the_trace_of_both_parts(url):
    body = chat("1+2?") | {"stream": True, "return_trace": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: {")]
    choices = [json.loads(line)["choices"][0] for line in lines]
    text = "".join(t["text"] for choice in choices for t in choice.get("trace", []))
    assert text == "Now 1+2=3.</think>\n\nAnswer: 3."


def test_a_completion_is_all_text(url):
    body = {"model": "toy", "prompt": "1+2?", "max_tokens": 60}
    choice = httpx.post(f"{url}/v1/completions", json=body).json()["choices"][0]
    assert choice["text"] == "Now 1+2=3.</think>\n\nAnswer: 3."


def test_a_prompt_that_has_closed_it_leaves_only_content(pair):
    script = Script(pair.tokenizer, "Answer: 3.")

    def encode_chat(messages, *_):
        return pair.tokenizer("1+2?<think></think>").input_ids

    def think(prompt):
        return "<think>", pair.think_end(prompt)

    with live(*offer(script, think=think, encode_chat=encode_chat)) as (url, _):
        answer = httpx.post(f"{url}/v1/chat/completions", json=chat("1+2?")).json()
    message = answer["choices"][0]["message"]
    assert message["content"] == "Answer: 3."
    assert "reasoning_content" not in message


def test_the_text_of_an_answer_keeps_the_closing_token(pair):
    (trace,) = Says(pair.tokenizer, "a</think>b").generate([Prompt([1])])
    assert trace.text == "a</think>b"
