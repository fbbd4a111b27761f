"""lm-eval's view of a generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from lm_eval.api.model import LM

from r2r.engines.base import Sampling
from r2r.errors import must_be
from r2r.evaluation.graders import answer_text
from r2r.generators.base import Generator, Prompt
from r2r.records import fingerprint
from r2r.trace import Trace

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

GENERATION_OPTIONS = ("until", "max_gen_toks", "temperature", "top_p", "do_sample")


class Answer(str):
    """A generated text that carries what lm-eval itself has no place for.

    ``final``: the part to grade, after the reasoning. ``stats``: per-answer figures by name.
    ``score``: the grade (0 to 1), once the task has given it. All survive pickling and copying.
    """

    final: str
    stats: dict[str, float]
    score: float | None

    def __new__(cls, text: str, final: str = "", stats: dict[str, float] | None = None) -> Answer:
        answer = super().__new__(cls, text)
        answer.final = final
        answer.stats = stats or {}
        answer.score = None
        return answer


class R2RLM(LM):
    """A generator as an lm-eval model: all requests of all tasks go to it in one call.

    ``encode`` makes a question the prompt's token ids. ``think_end`` says what closes the reasoning
    in the answer to a prompt (None: nothing does); stop strings count only after it, and only what
    follows is graded.
    ``max_new_tokens``, ``temperature`` and ``top_p`` hold where a task's generation_kwargs say
    nothing else. Every request draws from its own seed, made of (``seed``, task, doc id, repeat).
    ``stats`` makes an answer's figures from its trace, among them the ``llm_share``,
    ``avg_params_b`` and ``output_tokens`` that tasks report.
    """

    def __init__(
        self,
        generator: Generator,
        encode: Callable[[str], list[int]],
        *,
        think_end: Callable[[Sequence[int]], str | None],
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        stats: Callable[[Trace], dict[str, float]],
    ):
        super().__init__()
        self.generator = generator
        self.encode = encode
        self.think_end = think_end
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self.stats = stats

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of ``requests``; a request given twice is two repeats of it."""
        seen: Counter[int] = Counter()
        repeats = []
        for request in requests:
            repeats.append(seen[id(request)])
            seen[id(request)] += 1
        prompts = [self.prompt(r, n) for r, n in zip(requests, repeats, strict=True)]
        return [self.answer(trace) for trace in self.generator.each(prompts)]

    def set_cache_hook(self, cache_hook: CacheHook) -> NoReturn:
        """lm-eval's cache of answers is refused: it knows a question but not the model, router or
        threshold that answered it, and keeps pickles (CVE-2024-35515)."""
        raise must_be(
            "--use_cache", "left out (run.py keeps answers by their fingerprint)", "a file"
        )

    def prompt(self, request: Instance, repeat: int) -> Prompt:
        text, options = request.arguments
        for name in options:
            if name not in GENERATION_OPTIONS:
                raise must_be("gen_kwargs", "known options", name, GENERATION_OPTIONS)
        until = options.get("until", [])
        greedy = options.get("do_sample") is False
        sampling = Sampling(
            max_new_tokens=int(options.get("max_gen_toks", self.max_new_tokens)),
            temperature=0.0 if greedy else float(options.get("temperature", self.temperature)),
            top_p=float(options.get("top_p", self.top_p)),
            seed=request_seed(self.seed, request.task_name, request.doc_id, repeat),
        )
        tokens = self.encode(text)
        return Prompt(
            tokens=tokens,
            sampling=sampling,
            stop=(until,) if isinstance(until, str) else tuple(until),
            after=self.think_end(tokens) or "",
        )

    def answer(self, trace: Trace) -> Answer:
        final = answer_text(trace.text, self.think_end(trace.prompt))
        return Answer(trace.text, final, self.stats(trace))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        raise NotImplementedError(
            "R2R applies the chat template itself: leave --apply_chat_template out"
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError(
            "R2R generates: tasks that score given continuations (loglikelihood) cannot be run, "
            "because a routed text has no single model's likelihood"
        )

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return [score for score, _ in self.loglikelihood(requests)]


def request_seed(seed: int, task: str | None, doc_id: int | None, repeat: int) -> int:
    """32 bits, the same on every machine and in any order of requests."""
    return int(fingerprint([seed, task, doc_id, repeat])[:8], 16)
