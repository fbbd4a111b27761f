"""The slow references: one token at a time, whole prefix each time, no cache, no engine.

A policy's loop takes ``rule``, what it has beside the two models, and gives the steps.
"""

import math
from dataclasses import dataclass

import torch

from r2r.engines.base import Sampling
from r2r.engines.sampling import choose
from r2r.routers.base import Router
from r2r.trace import TOP_K, Step, TokenSignals


@torch.inference_mode()
def next_logits(model, tokens):
    out = model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
    return out.logits[0, -1].float(), out.hidden_states[-1][0, -1].float()


def greedy(logits, banned):
    logits = logits.clone()
    logits[banned] = -torch.inf
    return int(logits.argmax())


def routed(
    slm, llm, router: Router, threshold: float, prompt, budget, eos_ids, banned
) -> list[Step]:
    steps: list[Step] = []
    answer: list[int] = []
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # the signals of every position so far
    while len(answer) < budget:
        logits, hidden = next_logits(slm, prompt + answer)
        draft = greedy(logits, banned)
        top = logits.topk(min(TOP_K, len(logits))).values
        seen.append((top, hidden))
        at = range(len(answer) + 1 - router.window, len(answer) + 1)
        past = [seen[max(0, position)] for position in at]
        ranked, states = (torch.cat(parts)[None] for parts in zip(*past, strict=True))
        signals = TokenSignals(torch.tensor([draft]), ranked, states, torch.tensor([len(answer)]))
        score = float(router.score(signals)[0])
        if score >= threshold:
            token = greedy(next_logits(llm, prompt + answer)[0], banned)
            steps.append(Step(token, "llm", score, draft))
        else:
            token = draft
            steps.append(Step(token, "slm", score))
        answer.append(token)
        if token in eos_ids:
            break
    return steps


def alone(model, prompt, budget, eos_ids, banned) -> list[int]:
    answer: list[int] = []
    while len(answer) < budget:
        answer.append(greedy(next_logits(model, prompt + answer)[0], banned))
        if answer[-1] in eos_ids:
            break
    return answer


@dataclass
class Slow:
    """Two models that share one answer; ``sampling`` draws the tokens of both."""

    slm: object
    llm: object
    router: Router
    prompt: list
    budget: int
    eos_ids: set
    banned: list
    sampling: Sampling

    def logits(self, model, answer):
        logits, hidden = next_logits(model, self.prompt + answer)
        allowed = logits.clone()
        allowed[self.banned] = -torch.inf
        return logits, allowed, hidden

    def own(self, model, answer):
        """The token a model writes next."""
        _, allowed, _ = self.logits(model, answer)
        return int(choose(allowed[None], [self.sampling], [len(answer)])[0])

    def proposed(self, answer):
        """The SLM's next token and the router's score of it."""
        raw, _, hidden = self.logits(self.slm, answer)
        token = self.own(self.slm, answer)
        top = raw.topk(min(TOP_K, len(raw))).values[None]
        signals = TokenSignals(
            torch.tensor([token]), top, hidden[None], torch.tensor([len(answer)])
        )
        return token, float(self.router.score(signals)[0])

    def ratio(self, answer, token):
        """A token's probability for the LLM, relative to its best."""
        probabilities = self.logits(self.llm, answer)[1].softmax(-1)
        return float(probabilities[token] / probabilities.max())

    def entropy(self, model, answer):
        """Of what a model may write next, over that of a uniform distribution."""
        probabilities = self.logits(model, answer)[1].softmax(-1)
        some = probabilities[probabilities > 0]
        return float(-(some * some.log()).sum()) / math.log(len(probabilities))

    def over(self, answer):
        return len(answer) >= self.budget or (bool(answer) and answer[-1] in self.eos_ids)


@torch.inference_mode()
def policy_r2r(slow, threshold):
    steps, answer = [], []
    while not slow.over(answer):
        token, score = slow.proposed(answer)
        step = Step(token, "slm", score)
        if score >= threshold:
            step = Step(slow.own(slow.llm, answer), "llm", score, token)
        steps.append(step)
        answer.append(step.token)
    return steps


def judged(slow, answer, drafted, tau):
    """What comes of drafted (token, score); ``tau`` None: the LLM's very own tokens pass."""
    steps = []
    for at, (token, score) in enumerate(drafted):
        here = answer + [token for token, _ in drafted[:at]]
        own = slow.own(slow.llm, here)
        good = token == own if tau is None else slow.ratio(here, token) >= tau
        if not good:
            cut = tuple(token for token, _ in drafted[at + 1 :])
            return [*steps, Step(own, "llm", score, token, cut)]
        steps.append(Step(token, "slm", score))
    return steps


@torch.inference_mode()
def policy_check(slow, threshold, every, tau):
    steps = []
    while not slow.over(answer := [step.token for step in steps]):
        drafted = []
        while len(drafted) < every:
            text = answer + [token for token, _ in drafted]
            if slow.over(text):
                break
            drafted.append(slow.proposed(text))
            if drafted[-1][1] >= threshold:
                break
        steps += judged(slow, answer, drafted, tau)
    return steps


@torch.inference_mode()
def policy_speculative(slow, draft_tokens, tau):
    steps = []
    while not slow.over(answer := [step.token for step in steps]):
        drafted = []
        while len(drafted) < min(draft_tokens, slow.budget - len(answer) - 1):
            text = answer + [token for token, _ in drafted]
            if slow.over(text):
                break
            drafted.append((slow.own(slow.slm, text), None))
        new = judged(slow, answer, drafted, tau)
        text = answer + [step.token for step in new]
        if all(step.source == "slm" for step in new) and not slow.over(text):
            new.append(Step(slow.own(slow.llm, text), "llm"))
        steps += new
    return steps


@torch.inference_mode()
def policy_r_stitch(slow, hand_over, hand_back):
    steps, by_llm = [], False
    while not slow.over(answer := [step.token for step in steps]):
        if by_llm:
            steps.append(Step(slow.own(slow.llm, answer), "llm"))
        elif slow.entropy(slow.slm, answer) > hand_over:
            by_llm, draft = True, slow.own(slow.slm, answer)
            steps.append(Step(slow.own(slow.llm, answer), "llm", None, draft))
        else:
            steps.append(Step(slow.own(slow.slm, answer), "slm"))
        if by_llm and slow.entropy(slow.llm, answer) < hand_back:
            by_llm = False
    return steps


def closed(step, ends):
    return ends in " ".join(map(str, step)).lstrip()


def one_step(slow, model, answer, ends):
    step = []
    while not slow.over(answer + step) and not closed(step, ends):
        step.append(slow.own(model, answer + step))
    return step


@torch.inference_mode()
def policy_glimpse(slow, entropy, ends):
    steps = []
    while not slow.over(answer := [step.token for step in steps]):
        if slow.entropy(slow.slm, answer) > entropy:
            first, *rest = one_step(slow, slow.llm, answer, ends)
            steps.append(Step(first, "llm", None, slow.own(slow.slm, answer)))
            steps += [Step(token, "llm") for token in rest]
        else:
            steps += [Step(token, "slm") for token in one_step(slow, slow.slm, answer, ends)]
    return steps


@torch.inference_mode()
def policy_spec_reason(slow, least, ends):
    steps = []
    while not slow.over(answer := [step.token for step in steps]):
        drafted, total = one_step(slow, slow.slm, answer, ends), 0.0
        for at, token in enumerate(drafted):
            total += float(slow.logits(slow.llm, answer + drafted[:at])[1].log_softmax(-1)[token])
        if total / len(drafted) >= least:
            steps += [Step(token, "slm") for token in drafted]
        else:
            first, *rest = one_step(slow, slow.llm, answer, ends)
            steps.append(Step(first, "llm", None, drafted[0], tuple(drafted[1:])))
            steps += [Step(token, "llm") for token in rest]
    return steps
