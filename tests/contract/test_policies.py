"""What every policy of conf/policy must do, each beside its slow loop of tests/reference.py."""

import asyncio
import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import reference
from disturbed import every_second_cancelled, idle
from tiny import (
    BANNED,
    EOS,
    SLOW,
    Wobble,
    nano,
    prompts,
    routed,
    single,
    sources,
    tiny,
    tokens,
)  # fmt: skip

from r2r.costs import Forwards
from r2r.policies.build import build_policy
from r2r.stages.compose import compose

CONF = Path(__file__).parents[2] / "conf" / "policy"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


@dataclass
class Case:
    """A policy under test: its config, the threshold, and its slow loop's own arguments."""

    loop: str
    options: list = field(default_factory=list)
    threshold: float = float("inf")
    rule: dict = field(default_factory=dict)

    def policy(self):
        return build_policy(composed(*self.options))


@functools.cache
def composed(*options):
    return compose(list(options))[0].policy


def r2r(threshold):
    return Case("r2r", ["policy=r2r"], threshold, {"threshold": threshold})


def check(threshold, every, tau):
    options = ["policy=check", f"policy.every={every}", f"policy.accept.tau={tau}"]
    return Case("check", options, threshold,
                {"threshold": threshold, "every": every, "tau": tau})  # fmt: skip


def speculative(name, drafts, tau=None):
    options = [f"policy={name}", f"policy.draft_tokens={drafts}"]
    options += [] if tau is None else [f"policy.accept.tau={tau}"]
    return Case("speculative", options, rule={"draft_tokens": drafts, "tau": tau})


def steps(name, ends, **options):
    given = [
        f"policy={name}",
        f"policy.ends='{ends}'",
        *(f"policy.{k}={v}" for k, v in options.items()),
    ]
    return Case(name, given, rule={"ends": ends, **options})


CASES = {
    "r2r": r2r(0.5),
    "check": check(0.8, 5, 0.3),
    "check, each token": check(0.8, 1, 0.1),
    "check, no router": check(2.0, 4, 0.02),
    "speculative": speculative("speculative", 3),
    "lossy": speculative("lossy", 4, 0.05),
    "r_stitch": Case(
        "r_stitch",
        ["policy=r_stitch", "policy.hand_over=0.75", "policy.hand_back=0.65"],
        rule={"hand_over": 0.75, "hand_back": 0.65},
    ),
    "glimpse": steps("glimpse", " 1", entropy=0.72),
    "spec_reason": steps("spec_reason", " 1", least=-7.0),
}


@pytest.fixture(scope="module", params=["qwen2", *SLOW])
def pair(request):
    if request.param == "nano":
        return nano("slm"), nano("llm")
    return tiny(request.param, 32, 2, 0), tiny(request.param, 48, 3, 1)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_every_policy_is_here():
    assert {case.options[0].partition("=")[2] for case in CASES.values()} == set(NAMES)


def generator(pair, case, max_batch=32, **options):
    return routed(pair, case.threshold, max_batch, policy=case.policy(), **options)


def told(steps):
    return [(s.token, s.source, s.draft, s.cut) for s in steps]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_equals_its_slow_loop(pair, case, temperature):
    asked = prompts(8, budget=16, temperature=temperature, top_p=0.9, seed=3)
    traces = generator(pair, case).generate(asked)
    loop = getattr(reference, f"policy_{case.loop}")
    for prompt, trace in zip(asked, traces, strict=True):
        budget = prompt.sampling.max_new_tokens
        slow = reference.Slow(*pair, Wobble(), prompt.tokens, budget, EOS, BANNED, prompt.sampling)
        expected = loop(slow, **case.rule)
        assert told(trace.steps) == told(expected)
        ends = trace.steps[-1].token in EOS
        assert trace.finish_reason == ("eos" if ends else "length")


def test_batch_1_equals_batch_32(pair, case):
    drawn = {"temperature": 1.0, "top_p": 0.9, "seed": 6}
    asked = [*prompts(16, budget=9), *prompts(16, budget=9, **drawn)]
    together = generator(pair, case).generate(asked)
    one_by_one = generator(pair, case, max_batch=1).generate(asked)
    small = generator(pair, case, max_prefill_tokens=5).generate(asked)
    for other in (one_by_one, small):
        assert [told(t.steps) for t in together] == [told(t.steps) for t in other]
        assert [t.spent for t in together] == [t.spent for t in other]


def test_slots_that_change_hands_change_nothing(pair, case):
    asked = prompts(10)
    roomy, tight = generator(pair, case), generator(pair, case, max_batch=2)
    tight.concurrency = 10  # answers take turns at two slots
    assert sources(tight.generate(asked)) == sources(roomy.generate(asked))


def test_stop_strings_end_it_as_they_end_its_tokens(pair, case):
    """The same tokens as without them, up to the first end: nothing looks behind a stop."""
    plain = prompts(12)
    free = generator(pair, case).generate(plain)
    long = [trace.steps for trace in free if len(trace.steps) > 4]
    stop = tuple(f" {steps[len(steps) // 2].token}" for steps in long[:2])
    asked = [dataclasses.replace(p, stop=stop) for p in plain]
    stopped = generator(pair, case).generate(asked)
    assert any(trace.finish_reason == "stop" for trace in stopped)
    for whole, trace in zip(free, stopped, strict=True):
        written = [step.token for step in trace.steps]
        assert written == [step.token for step in whole.steps][: len(written)]
        text = " ".join(map(str, written))
        assert (trace.finish_reason == "stop") == any(mark in text for mark in stop)
        before = " ".join(map(str, written[:-1]))
        assert not any(mark in before for mark in stop)


def test_a_stop_behind_a_mark_that_was_cut_is_none(pair, case):
    """``after`` is looked for in what stays, not in what a draft had written."""
    plain = prompts(12)
    free = generator(pair, case).generate(plain)
    asked = [dataclasses.replace(p, stop=(" 1",), after=" 9") for p in plain]
    for whole, trace in zip(free, generator(pair, case).generate(asked), strict=True):
        _, _, behind = " ".join(str(s.token) for s in whole.steps).partition(" 9")
        if " 1" not in behind:
            assert tokens([trace]) == tokens([whole])


def test_the_budget_is_kept(pair, case):
    for budget in (1, 2, 7):
        asked = prompts(6, budget=budget + 4)
        for prompt in asked:
            prompt.sampling.max_new_tokens = budget
        for trace in generator(pair, case).generate(asked):
            assert len(trace.steps) <= budget
            assert (trace.finish_reason == "length") == (trace.steps[-1].token not in EOS)


def test_steps_are_told_once_in_order_as_they_stand(pair, case):
    asked = prompts(9)

    async def every():
        made = generator(pair, case)
        heard = [[] for _ in asked]
        pairs = zip(asked, heard, strict=True)
        traces = await asyncio.gather(*(made.answer(p, h.append) for p, h in pairs))
        return traces, heard

    traces, heard = asyncio.run(every())
    assert [trace.steps for trace in traces] == heard


def test_a_cancelled_answer_frees_both_engines_and_disturbs_no_other(pair, case):
    asked = prompts(8)
    made = generator(pair, case)
    expected = sources(made.generate(asked))
    assert sources(asyncio.run(every_second_cancelled(made, asked))) == expected[1::2]
    assert idle(made.slm, made.llm)


def test_an_answer_that_broke_off_begins_anew_as_if_undisturbed(pair, case):
    """At the same engines, wherever it broke off; costs and all."""
    drawn = {"temperature": 1.0, "top_p": 0.9, "seed": 4}
    asked = [*prompts(3), *prompts(3, **drawn)]
    made = generator(pair, case)
    expected = [(told(t.steps), t.finish_reason, t.spent) for t in made.generate(asked)]

    async def broken(prompt, after):
        heard = []
        task = asyncio.create_task(made.answer(prompt, heard.append))
        while len(heard) < after and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await made.answer(prompt)

    async def all_of_them():
        return await asyncio.gather(*(broken(p, 1 + 2 * at) for at, p in enumerate(asked)))

    again = asyncio.run(all_of_them())
    assert [(told(t.steps), t.finish_reason, t.spent) for t in again] == expected


def test_costs_add_up(pair, case, monkeypatch):
    """What an answer says it took is what its engines did, one request at a time."""
    made = generator(pair, case, max_batch=1)
    fed = {"slm": [], "llm": []}
    for name, model in (("slm", made.slm), ("llm", made.llm)):
        forward = model._forward

        def counted(jobs, forward=forward, model=model, name=name):
            before = len(jobs[0].place.tokens)
            forward(jobs)
            fed[name].append(len(jobs[0].place.tokens) - before)

        monkeypatch.setattr(model, "_forward", counted)
    traces = made.generate(prompts(6))
    for name in ("slm", "llm"):
        taken = [trace.spent.of(name) for trace in traces]
        assert sum(each.forwards for each in taken) == len(fed[name])
        assert sum(each.positions for each in taken) == sum(fed[name])
    found = Forwards.of(traces)
    written = [step for trace in traces for step in trace.steps]
    refused = sum((step.draft is not None) + len(step.cut) for step in written)
    assert found.tokens == len(written)
    assert found.slm_forwards == found.slm_tokens + refused
    assert found.llm_forwards >= found.llm_tokens


# What thresholds at their ends do.


def test_check_that_accepts_nothing_is_the_llm(pair):
    asked = prompts(12)
    expected = tokens(single(pair[1]).generate(asked))
    traces = generator(pair, check(0.5, 3, 1.5)).generate(asked)
    assert tokens(traces) == expected
    assert all(step.source == "llm" for trace in traces for step in trace.steps)


def test_check_that_accepts_everything_is_the_slm(pair):
    asked = prompts(12)
    traces = generator(pair, check(0.5, 3, 0.0)).generate(asked)
    assert tokens(traces) == tokens(single(pair[0]).generate(asked))
    assert all(step.source == "slm" for trace in traces for step in trace.steps)


def test_an_end_the_llm_would_not_write_is_overridden(pair):
    """The SLM's EOS goes the way of any other token that the LLM refuses."""
    slm, _ = pair
    asked = prompts(30)
    ends = [t.steps[-1].token in EOS for t in single(slm).generate(asked)]
    longer = [
        len(mine.steps) > len(alone.steps)
        for mine, alone, end in zip(
            generator(pair, check(2.0, 64, 0.9)).generate(asked),
            single(slm).generate(asked), ends, strict=True,
        )
        if end
    ]  # fmt: skip
    assert not longer or any(longer)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_exact_speculation_is_the_llm_drawn_or_not(pair, temperature):
    asked = prompts(12, temperature=temperature, top_p=0.95, seed=1)
    traces = generator(pair, speculative("speculative", 4)).generate(asked)
    assert tokens(traces) == tokens(single(pair[1]).generate(asked))


def test_check_holds_back_what_may_be_cut(pair):
    """At most ``every`` tokens are on their way when one is told."""
    made = generator(pair, check(2.0, 4, 0.05))
    drafted = []
    draft = made.slm.decode

    async def counted(request):
        decoded = await draft(request)
        drafted.append(len(decoded.tokens))
        return decoded

    made.slm.decode = counted
    made.generate(prompts(4))
    assert max(drafted) == 4
