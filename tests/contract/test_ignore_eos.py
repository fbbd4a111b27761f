"""Answers that go on behind end tokens, as benchmark clients ask for: to the budget, exactly."""

from dataclasses import replace

import pytest
from test_policies import CASES
from tiny import prompts, routed, single, sources, tiny, tokens

KINDS = ["one model", *CASES]


@pytest.fixture(scope="module")
def models():
    return tiny("qwen3", 32, 2, 0), tiny("qwen3", 48, 3, 1)


def build(models, kind, ends):
    """A generator whose answers end with the tokens ``ends``."""
    if kind == "one model":
        made = single(models[0])
        made.engine.eos_ids = frozenset(ends)
        return made
    made = routed(models, CASES[kind].threshold, policy=CASES[kind].policy())
    made.slm.eos_ids = made.llm.eos_ids = made.eos_ids = frozenset(ends)
    return made


def often(traces):
    """The token that most answers hold before their last one."""
    held = [token for answer in tokens(traces) for token in set(answer[:-1])]
    return max(sorted(set(held)), key=held.count)


@pytest.mark.parametrize("kind", KINDS)
def test_end_tokens_are_as_any_other_for_those_who_ask(models, kind):
    asked = prompts(12)
    endless = build(models, kind, ()).generate(asked)
    ends = {often(endless)}
    ending = build(models, kind, ends).generate(asked)
    assert {trace.finish_reason for trace in ending} >= {"eos"}
    mixed = [replace(prompt, ignore_eos=n % 2 == 0) for n, prompt in enumerate(asked)]
    given = build(models, kind, ends).generate(mixed)
    expected = [(endless, ending)[n % 2][n] for n in range(len(asked))]
    assert sources(given) == sources(expected)
    assert {trace.finish_reason for trace in given[::2]} == {"length"}
    assert [t.finish_reason for t in given[1::2]] == [t.finish_reason for t in ending[1::2]]
