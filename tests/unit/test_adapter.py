"""The lm-eval adapter over a generator that answers without a model."""

import copy
import json
import pickle
from functools import partial
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from transformers import AutoTokenizer

from r2r.chat import encode_question, render
from r2r.errors import ConfigError
from r2r.evaluation.adapter import R2RLM, request_seed
from r2r.evaluation.answer import Answer
from r2r.policies.base import Generator
from r2r.trace import Step, Trace

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"


class Scripted(Generator):
    """Answers every prompt with the same text, and remembers the prompts."""

    def __init__(self, tokenizer, text="thinking</think> \\boxed{1}."):
        super().__init__(tokenizer=tokenizer, context=1024, concurrency=4)
        self.text, self.asked = text, []

    async def write(self, prompt, budget, add, spent):
        self.asked.append(prompt)
        ids = self.tokenizer(self.text, add_special_tokens=False)["input_ids"]
        for n, token in enumerate(ids):
            add(Step(token, "llm" if n % 2 else "slm"))
        return "eos"


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


def stats(trace: Trace) -> dict[str, float]:
    share = trace.count("llm") / len(trace.steps)
    return {"llm_share": share, "avg_params_b": 1 + share, "output_tokens": len(trace.steps)}


def model(generator, think_end="</think>"):
    return R2RLM(
        generator,
        partial(encode_question, generator.tokenizer, options={}),
        render=partial(render, generator.tokenizer, options={}),
        think_end=lambda prompt: think_end,
        max_new_tokens=99,
        temperature=0.7,
        top_p=0.9,
        seed=5,
        stats=stats,
    )


def request(text="How many?", doc_id=0, task="r2r_nano_math", **options):
    options.setdefault("until", [])
    return Instance("generate_until", {}, (text, options), 0, (task, doc_id, 1))


def test_an_answer_survives_json_pickle_and_copy():
    answer = Answer("a</think>b", "b", {"output_tokens": 3.0})
    answer.score = 0.5
    for twin in (pickle.loads(pickle.dumps(answer)), copy.copy(answer), copy.deepcopy(answer)):
        assert twin == "a</think>b" and type(twin) is Answer
        assert (twin.final, twin.stats, twin.score) == ("b", {"output_tokens": 3.0}, 0.5)
    assert json.loads(json.dumps(answer)) == "a</think>b"


def test_answers_carry_what_follows_the_reasoning_and_their_stats(tokenizer):
    generator = Scripted(tokenizer)
    (answer,) = model(generator).generate_until([request()])
    assert answer == "thinking</think> \\boxed{1}."
    assert answer.final.strip() == "\\boxed{1}."
    (trace,) = generator.generate(generator.asked)
    assert trace.text == answer and answer.stats == stats(trace)


def test_unfinished_reasoning_has_no_final_answer(tokenizer):
    generator = Scripted(tokenizer, "still \\boxed{1}")
    assert model(generator).generate_until([request()])[0].final == ""
    assert model(generator, think_end=None).generate_until([request()])[0].final != ""


def test_the_chat_template_is_applied_once_with_one_bos(tokenizer):
    generator = Scripted(tokenizer)
    model(generator).generate_until([request("How many cups?")])
    tokens = generator.asked[0].tokens
    assert tokens.count(tokenizer.bos_token_id) == 1 and tokens[0] == tokenizer.bos_token_id
    assert tokenizer.decode(tokens) == "<|bos|><|user|>How many cups?<|assistant|><think>"


def test_a_model_without_a_template_gets_the_plain_question(tokenizer):
    tokenizer.chat_template = None
    generator = Scripted(tokenizer)
    model(generator).generate_until([request("How many cups?")])
    assert tokenizer.decode(generator.asked[0].tokens) == "How many cups?"


def test_defaults_hold_where_the_task_says_nothing(tokenizer):
    generator = Scripted(tokenizer)
    model(generator).generate_until([request()])
    (prompt,) = generator.asked
    sampling = prompt.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (99, 0.7, 0.9)
    assert prompt.stop == ()


def test_generation_options_override_the_defaults(tokenizer):
    generator = Scripted(tokenizer)
    options = {"until": "Question:", "max_gen_toks": 7, "temperature": 0.2, "top_p": 0.5}
    model(generator).generate_until([request(**options), request(do_sample=False)])
    first, second = generator.asked
    assert (first.stop, first.after) == (("Question:",), "</think>")
    assert first.sampling.max_new_tokens == 7
    assert (first.sampling.temperature, first.sampling.top_p) == (0.2, 0.5)
    assert second.sampling.temperature == 0.0


def test_an_unknown_generation_option_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"temprature.*did you mean 'temperature'"):
        model(Scripted(tokenizer)).generate_until([request(temprature=1)])


def test_each_repeat_of_each_problem_draws_from_its_own_seed(tokenizer):
    generator = Scripted(tokenizer)
    first, second = request(doc_id=0), request(doc_id=1)
    model(generator).generate_until([first, first, second, second])
    seeds = [prompt.sampling.seed for prompt in generator.asked]
    assert len(set(seeds)) == 4
    generator.asked.clear()
    model(generator).generate_until([second, first])
    assert [prompt.sampling.seed for prompt in generator.asked] == [seeds[2], seeds[0]]


def test_seeds_are_the_same_on_every_machine():
    assert request_seed(0, "nano_math", 3, 1) == 1084222433


def test_likelihoods_are_refused(tokenizer):
    lm = model(Scripted(tokenizer))
    for call in (lm.loglikelihood, lm.loglikelihood_rolling):
        with pytest.raises(ConfigError, match=r"--tasks must be .*got 'mine'"):
            call([Instance("loglikelihood", {}, ("a", "b"), 0, ("mine", 0, 1))])


def test_lm_evals_tasks_are_read_as_text_or_as_the_template_wrote_them(tokenizer):
    generator = Scripted(tokenizer)
    lm = model(generator)
    ours, theirs = request(), request("Question: 1+1\nAnswer:", task="gsm8k", until=["Question:"])
    answers = lm.generate_until([ours, theirs])
    first, second = generator.asked
    assert tokenizer.decode(second.tokens) == "Question: 1+1\nAnswer:"
    assert (first.after, second.after) == ("</think>", "")  # plain text opens no reasoning
    assert answers == [generator.text, generator.text]
    generator.asked.clear()
    assert lm.chat_template(True) == tokenizer.chat_template
    turns = [{"role": "user", "content": "How many cups?"}]
    text = lm.apply_chat_template(turns)
    answers = lm.generate_until([request(text), request(text, task="gsm8k")])
    for prompt in generator.asked:
        assert prompt.tokens == encode_question(tokenizer, "How many cups?", {})
    assert [answer.strip() for answer in answers] == [generator.text, "\\boxed{1}."]
    opened = lm.apply_chat_template(
        [*turns, {"role": "assistant", "content": "So"}], add_generation_prompt=False
    )
    assert opened.endswith("<|assistant|>So")
    with pytest.raises(ConfigError, match="--apply_chat_template must be without a name"):
        lm.chat_template("tool_use")
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="--apply_chat_template must be left out"):
        lm.chat_template(True)


def test_drawing_as_lm_eval_says_it(tokenizer):
    generator = Scripted(tokenizer)
    lm = model(generator)
    lm.temperature = 0.0
    lm.generate_until([request(), request(do_sample=True, max_new_tokens=3, num_beams=1)])
    first, second = (prompt.sampling for prompt in generator.asked)
    assert (first.temperature, second.temperature, second.max_new_tokens) == (0.0, 1.0, 3)
    with pytest.raises(ConfigError, match="num_beams must be 1"):
        lm.generate_until([request(num_beams=2)])


def test_lm_evals_cache_of_answers_is_refused(tokenizer, tmp_path):
    with pytest.raises(ConfigError, match=r"^--use_cache must be left out"):
        CachingLM(model(Scripted(tokenizer)), str(tmp_path / "answers.db"))
