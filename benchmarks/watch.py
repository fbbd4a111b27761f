"""Where the wall time of a run on the torch engine goes.

A run's forwards are kept by shape; a sample of them is run again afterwards, on tensors that lie
ready and with nothing around them. What they took, over the wall time, is the efficiency. The
rest is told by the part of the engine's step in which it went.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from harness import clock
from pairs import Pattern

from r2r.engines.torch.attention import Layout
from r2r.engines.torch.engine import TorchEngine
from r2r.engines.torch.packed import Packed

READ = 2**28  # floats whose sum tells the memory's speed
SAMPLE = 12  # forwards of each engine that are run again

Shape = tuple[list[int], list[int], list[int]]  # slots, starts, widths


class Watch:
    """The forwards of an engine by shape, and the seconds of its parts. Use ``stop`` after the run.

    ``seconds``: ``forward``, of which ``hidden`` (the decoder), ``write`` (head, choice of the
    token, router), of which ``router``. On a GPU they are when work was asked for: only the sum
    means anything there.
    """

    def __init__(self, engine: TorchEngine):
        self.engine = engine
        self.shapes: list[Shape] = []
        self.kv_mb = 0.0  # that keys and values took at most
        self.seconds: dict[str, float] = defaultdict(float)
        self.replaced: list[tuple[Any, str]] = []
        forward = engine._forward

        def kept(jobs: Any) -> None:
            starts = [len(job.place.tokens) for job in jobs]
            widths = [len(job.text) - start for job, start in zip(jobs, starts, strict=True)]
            self.shapes.append(([job.place.index for job in jobs], starts, widths))
            forward(jobs)
            self.kv_mb = max(self.kv_mb, engine.cache.nbytes / 1e6)

        self._put(engine, "_forward", self._timed("forward", kept))
        runner = engine.runner
        self._put(runner, "hidden", self._timed("hidden", runner.hidden))
        self._put(engine, "_write", self._timed("write", engine._write))
        if isinstance(runner.router, Pattern):
            router = runner.router.inner
            self._put(router, "score", self._timed("router", router.score))

    def _put(self, owner: Any, name: str, value: Any) -> None:
        object.__setattr__(owner, name, value)
        self.replaced.append((owner, name))

    def _timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            began = clock.host()
            made = work(*given)
            self.seconds[part] += clock.host() - began
            return made

        return run

    def stop(self) -> None:
        for owner, name in self.replaced:
            object.__delattr__(owner, name)

    def bare(self) -> float:
        """Seconds that all the forwards take alone: decoder and head."""
        step = max(1, len(self.shapes) // SAMPLE)
        sample = [self._again(shape) for shape in self.shapes[step // 2 :: step]]
        return len(self.shapes) * statistics.fmean(sample) if sample else 0.0

    @torch.inference_mode()
    def _again(self, shape: Shape) -> float:
        engine, runner, widths = self.engine, self.engine.runner, shape[2]
        for slot in range(engine.cache.slots):
            engine.cache.free(slot)
        layout = Layout(engine.cache, *shape, runner.head.weight)
        ids = [4] * sum(widths)
        last = torch.tensor(widths, device=runner.device).cumsum(0) - 1
        taken = []
        for _ in range(3):
            began = clock()
            runner.head(runner.hidden(ids, layout)[last])
            taken.append(clock() - began)
        return statistics.median(taken)

    def gigabytes(self) -> float:
        """Weights that the forwards read from memory: the decoder's and the head's, every time."""
        decoder = self.engine.runner.decoder
        read = [w for name, w in decoder.named_parameters() if "embed" not in name]
        read += [layer.weight for layer in decoder.modules() if isinstance(layer, Packed)]
        read.append(self.engine.runner.head.weight)
        return len(self.shapes) * sum(weight.nbytes for weight in read) / 1e9


def parts(watches: list[Watch], wall: float) -> dict[str, float]:
    """Shares of the wall time. ``efficiency``: the forwards alone; ``router``: scores; ``layout``:
    what is laid out before a forward; ``pick``: the token's choice, and what decoder and head took
    above their bare time; ``loop``: between the steps."""
    total: dict[str, float] = defaultdict(float)
    for watch in watches:
        for part, seconds in watch.seconds.items():
            total[part] += seconds
    alone = sum(watch.bare() for watch in watches)
    return {
        "efficiency": alone / wall,
        "router": total["router"] / wall,
        "layout": (total["forward"] - total["hidden"] - total["write"]) / wall,
        "pick": (total["hidden"] + total["write"] - total["router"] - alone) / wall,
        "loop": 1 - total["forward"] / wall,
    }


def bandwidth(device: str) -> float:
    """GB/s at which memory can be read: the sum of a large tensor, the best of some."""
    large = torch.ones(READ, device=device)
    taken = []
    for _ in range(5):
        began = clock()
        large.sum()
        taken.append(clock() - began)
    return large.nbytes / min(taken) / 1e9
