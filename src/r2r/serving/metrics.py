"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from r2r.serving.speed import Speed
from r2r.trace import Step

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server. Client errors are requests too; a client that left is a 499.

    ``speed``: what tells of tokens per second, measured and expected.
    """

    def __init__(self, speed: Speed | None = None) -> None:
        self.speed = speed or Speed()
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "r2r_requests", "Requests by status", ["endpoint", "status"], registry=registry
        )
        self.tokens = Counter("r2r_tokens", "Tokens by author", ["source"], registry=registry)
        self.handoffs = Counter(
            "r2r_handoffs", "SLM tokens that the LLM replaced", registry=registry
        )
        self.share = Gauge("r2r_llm_share", "LLM tokens over all tokens", registry=registry)
        self.running = Gauge("r2r_answers_running", "Answers being written", registry=registry)
        self.waiting = Gauge("r2r_answers_waiting", "Answers queued", registry=registry)
        self.live = Gauge(
            "r2r_engine_live", "Requests and sessions held", ["engine"], registry=registry
        )
        self.throughput = Gauge(
            "r2r_gen_throughput", "Tokens per second, of the last 10 s", registry=registry
        )
        self.expected = Gauge(
            "r2r_gen_throughput_expected",
            "Tokens per second that as many answers are expected to get",
            ["system"],
            registry=registry,
        )
        self.first_token = Histogram(
            "r2r_first_token_seconds", "To the first token", buckets=SECONDS, registry=registry
        )
        self.whole = Histogram(
            "r2r_request_seconds", "Whole requests", buckets=SECONDS, registry=registry
        )
        self.written = {"slm": 0, "llm": 0}
        for source in self.written:
            self.tokens.labels(source)

    def wrote(self, step: Step) -> None:
        self.written[step.source] += 1
        self.speed.wrote()
        self.tokens.labels(step.source).inc()
        if step.draft is not None:
            self.handoffs.inc()
        self.share.set(self.written["llm"] / sum(self.written.values()))

    def text(
        self,
        running: int,
        waiting: int,
        live: Mapping[str, int],
        expected: Mapping[str, float],
    ) -> bytes:
        """All figures in Prometheus' text format."""
        self.running.set(running)
        self.waiting.set(waiting)
        self.throughput.set(self.speed.now())
        self.expected.clear()
        for system, rate in expected.items():
            self.expected.labels(system).set(rate)
        for engine, count in live.items():
            self.live.labels(engine).set(count)
        return generate_latest(self.registry)
