"""The slow reference: routed generation token by token, whole prefix each time, no cache."""

import torch

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
