"""Serve the routed pair over HTTP until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2r.config import BenchmarkConfig
    from r2r.policies.routed import Routed
    from r2r.serving.endpoint import Served
    from r2r.serving.speed import Speed
    from r2r.serving.worker import Worker
    from r2r.stages.workbench import Workbench

EXAMPLES = 4  # questions on the page
PAGE_RECALL = 0.99  # where nobody chose a threshold, the page begins with one that misses little


def serve(bench: Workbench) -> None:
    """Raises ConfigError where the address cannot be had or there is no router yet."""
    from r2r.serving.app import build_app
    from r2r.serving.server import Server, listen
    from r2r.stages.screen import say

    config = bench.config.serve
    with listen(config) as listener:
        served, worker = offer(bench)
        app = build_app(served, worker)
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        say("serve", f"{served.name} at {address}")
        asyncio.run(Server(app, worker, config.grace_s).serve([listener]))
    say("serve", "ended")


def offer(bench: Workbench) -> tuple[Served, Worker]:
    """The routed pair as the server offers it."""
    from r2r.chat import check_template_options, encode_chat
    from r2r.policies.routed import Routed
    from r2r.routers.threshold import threshold_at
    from r2r.serving.endpoint import Served
    from r2r.serving.metrics import Metrics
    from r2r.serving.server import api_key
    from r2r.serving.worker import Worker
    from r2r.stages.systems import make_generator, single

    config, pair = bench.config.serve, bench.pair
    generator, params = make_generator(bench, "routed")
    assert isinstance(generator, Routed)
    template = pair.tokenizer.chat_template is not None

    def encode(messages: list[dict[str, str]], options: dict[str, Any]) -> list[int]:
        check_template_options(pair.tokenizer, options, "chat_template_kwargs")
        return encode_chat(pair.tokenizer, messages, {**pair.config.chat_template, **options})

    alone = {"slm": single(bench, "slm", generator.slm), "llm": single(bench, "llm", generator.llm)}
    recalls = bench.described_router.metrics.get("validation", {}).get("curve")
    auto = bench.config.threshold == "auto"
    served = Served(
        name=pair.config.name,
        params=params,
        encode_chat=encode if template else None,
        threshold=generator.threshold,
        max_threshold=bench.saved_router.max_score,
        page_threshold=threshold_at(recalls, PAGE_RECALL) if auto and recalls else None,
        recalls=recalls,
        max_new_tokens=pair.config.max_new_tokens,
        max_prompt_tokens=config.max_prompt_tokens or pair.context_length,
        max_request_bytes=config.max_request_bytes,
        api_key=api_key(config),
        beside={name: params for name, (_, params) in alone.items()},
        examples=examples(bench.config.benchmark),
        one_turn=pair.config.one_turn,
        think=lambda prompt: (pair.config.think_start, pair.think_end(prompt)),
    )
    worker = Worker(
        generator=generator,
        beside={name: model for name, (model, _) in alone.items()},
        engines={"slm": generator.slm, "llm": generator.llm},
        metrics=Metrics(speed(bench, generator)),
        running=config.running,
        queue=config.queue,
        timeout_s=config.timeout_s,
    )
    return served, worker


def speed(bench: Workbench, generator: Routed) -> Speed:
    """Say what speed to expect of as many answers as run at once; for the metrics."""
    from r2r.serving.speed import Speed
    from r2r.stages.forecast import foretell
    from r2r.throughput import Turns

    requests = min(bench.config.serve.running, generator.concurrency)
    timed, found = foretell(bench, generator, requests)
    return Speed(timed, None if found.share is None else Turns.routed(found.share))


def examples(benchmark: BenchmarkConfig) -> list[str]:
    """Questions that the pair can be asked: the first of the benchmark's problems, the tasks in
    turn, of those that are on this machine."""
    from r2r.evaluation.sources import local_file, problems

    local = [t for t in benchmark.tasks if local_file(t, "test", benchmark.data_files)]
    columns = [problems(task, "test", benchmark.data_files)[:EXAMPLES] for task in local]
    rows = [row for turn in zip_longest(*columns) for row in turn if row]
    return [row["question"] for row in rows][:EXAMPLES]
