"""lm-eval's view of a generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from lm_eval.api.model import LM

from r2r.engines.base import Sampling
from r2r.errors import ConfigError, must_be
from r2r.evaluation.answer import Answer
from r2r.evaluation.graders import answer_text
from r2r.evaluation.sources import PREFIX
from r2r.policies.base import Generator, Prompt
from r2r.records import fingerprint
from r2r.trace import Trace

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

GENERATION_OPTIONS = (
    "until", "max_gen_toks", "max_new_tokens", "temperature", "top_p", "do_sample", "num_beams",
)  # fmt: skip


class R2RLM(LM):
    """A generator as an lm-eval model: all requests of all tasks go to it in one call.

    ``encode`` makes a question the prompt's token ids, through the chat template. So it is with
    our tasks; those of lm-eval and of users are read as lm-eval's own models read them: as plain
    text, or as ``render`` has written it (--apply_chat_template). ``think_end`` says what closes
    the reasoning in the answer to a prompt (None: nothing does); stop strings count only after it,
    and only what follows is graded.
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
        render: Callable[..., str],
        think_end: Callable[[Sequence[int]], str | None],
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        stats: Callable[[Trace], dict[str, float]],
    ):
        super().__init__()
        self.generator = generator
        self.encode, self.render = encode, render
        self.rendered = False  # whether lm-eval has the chat template applied
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
        traces = self.generator.each(prompts)
        return [self.answer(*one) for one in zip(requests, prompts, traces, strict=True)]

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
        if options.get("num_beams", 1) != 1:
            raise must_be("gen_kwargs: num_beams", "1", options["num_beams"])
        until = options.get("until", [])
        tokens, thinks = self.read(request, text)
        return Prompt(
            tokens=tokens,
            sampling=self.sampling(request, options, repeat),
            stop=(until,) if isinstance(until, str) else tuple(until),
            after=(self.think_end(tokens) if thinks else None) or "",
        )

    def read(self, request: Instance, text: str) -> tuple[list[int], bool]:
        """A request's prompt, and whether the model may think before its answer."""
        if self.rendered:
            return list(self.generator.tokenizer(text, add_special_tokens=False).input_ids), True
        if is_ours(request):
            return self.encode(text), True
        return list(self.generator.tokenizer(text).input_ids), False

    def sampling(self, request: Instance, options: dict[str, Any], repeat: int) -> Sampling:
        most = options.get("max_gen_toks", options.get("max_new_tokens", self.max_new_tokens))
        sample, temperature = options.get("do_sample"), self.temperature
        if sample and temperature == 0:  # as transformers draws where nothing else is said
            temperature = 1.0
        task = (request.task_name or "").removeprefix(PREFIX)
        return Sampling(
            max_new_tokens=int(most),
            temperature=0.0 if sample is False else float(options.get("temperature", temperature)),
            top_p=float(options.get("top_p", self.top_p)),
            seed=request_seed(self.seed, task, request.doc_id, repeat),
        )

    def answer(self, request: Instance, prompt: Prompt, trace: Trace) -> Answer:
        """Our tasks get the whole text and what to grade of it; others what they are to grade."""
        final = answer_text(trace.text, prompt.after or None)
        return Answer(trace.text if is_ours(request) else final, final, self.stats(trace))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        self.rendered = True
        return self.render(chat_history, go_on=not add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The pair's template. lm-eval asks for it where --apply_chat_template was given."""
        if isinstance(chat_template, str):
            wanted = "without a name: a pair has one template"
            raise must_be("--apply_chat_template", wanted, chat_template)
        if self.generator.tokenizer.chat_template is None:
            raise must_be("--apply_chat_template", "left out: this pair has none", chat_template)
        self.rendered = True
        return str(self.generator.tokenizer.chat_template)

    @property
    def tokenizer_name(self) -> str:
        return str(self.generator.tokenizer.name_or_path)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise no_likelihoods(requests[0].task_name if requests else None)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return [score for score, _ in self.loglikelihood(requests)]


def is_ours(request: Instance) -> bool:
    return (request.task_name or "").startswith(PREFIX)


def no_likelihoods(task: str | None) -> ConfigError:
    wanted = (
        "tasks that generate (generate_until): a routed text has no single model's likelihood, so"
        " none that score given continuations (loglikelihood)"
    )
    return must_be("--tasks", wanted, task)


def request_seed(seed: int, task: str | None, doc_id: int | None, repeat: int) -> int:
    """32 bits, the same on every machine and in any order of requests."""
    return int(fingerprint([seed, task, doc_id, repeat])[:8], 16)
