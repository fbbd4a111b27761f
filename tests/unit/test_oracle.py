"""The oracle writes what the labelling rule decides, position by position."""

import pytest
from test_labeling import EQUIVALENCE, PLAN, plan, slips
from toy import CLOSE, END, GO, THINK, ToyEngine, decode, ids

from r2r.engines.base import Sampling
from r2r.labeling.oracle import Oracle
from r2r.labeling.sentences import Sentences
from r2r.policies.base import Prompt

PROMPT = ids("<ask>", "1", "<go>")


class Words:
    def decode(self, tokens, skip_special_tokens):
        return decode(tokens)


class Verdicts:
    """Says one verdict, and remembers what it was asked."""

    def __init__(self, verdict):
        self.verdict, self.asked = verdict, []

    async def verify(self, comparisons):
        self.asked += (comparisons := list(comparisons))
        return [self.verdict] * len(comparisons)


def write(verifier=EQUIVALENCE, slm=slips, llm=plan, budget=40, stop=()):
    slm, llm = ToyEngine(slm), ToyEngine(llm)
    oracle = Oracle(
        slm=slm, llm=llm, verifier=verifier, tokenizer=Words(), context=99, concurrency=2,
        eos_ids=frozenset({END}),
        sentences=Sentences(decode=decode, think_ids=[THINK, CLOSE], eos_ids=[END], limit=12),
    )  # fmt: skip
    (trace,) = oracle.generate([Prompt(PROMPT, Sampling(budget), stop=stop)])
    assert not slm.sessions and not llm.sessions
    return trace, llm


def test_neutral_tokens_stay_and_divergent_ones_are_the_llms():
    trace, llm = write()
    assert trace.finish_reason == "eos"
    assert decode([step.token for step in trace.steps]) == (
        "<think>Then 1+2 is 3.\nNow 3+1=4.\n</think>Answer 4<end>"
    )
    llms = [(at, s.draft) for at, s in enumerate(trace.steps) if s.source == "llm"]
    assert [(at, decode([draft])) for at, draft in llms] == [(0, "So "), (6, "4"), (15, "Now ")]
    assert all(step.score is None for step in trace.steps)
    assert all(request.prompt[-1] == GO and request.parent for request in llm.requests)


def test_the_verifier_reads_both_sentences_to_their_end():
    verifier = Verdicts("divergent")
    write(verifier)
    fourth = verifier.asked[3]
    assert (fourth.before, fourth.slm, fourth.llm) == ("So 1+2=", "4", "3")
    assert (fourth.slm_rest, fourth.llm_rest) == (".\n", ".\n")
    assert fourth.context == "<think>" and fourth.question == "<ask>1<go>"


@pytest.mark.parametrize("verdict", ["divergent", "disputed", "unverified"])
def test_any_verdict_but_neutral_follows_the_llm(verdict):
    trace, _ = write(Verdicts(verdict))
    assert [step.token for step in trace.steps] == PLAN
    assert [at for at, s in enumerate(trace.steps) if s.source == "llm"] == [0, 1, 5, 6, 15, 18]


def test_always_neutral_is_the_slm_alone():
    trace, _ = write(Verdicts("neutral"), budget=18)
    assert [s.token for s in trace.steps] == [slips(PROMPT, PLAN[:at]) for at in range(18)]
    assert trace.count("llm") == 0 and trace.finish_reason == "length"


def test_equal_models_ask_nothing_and_a_stop_string_ends():
    verifier = Verdicts("divergent")
    trace, llm = write(verifier, slm=plan, stop=(".\n",))
    assert not verifier.asked and not llm.requests
    assert trace.finish_reason == "stop" and trace.count("llm") == 0
