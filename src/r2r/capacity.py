"""What labelling and serving take: GPU-seconds per token, from a roofline or as measured.

A forward over some tokens does 2 flops for each parameter and token, and reads each parameter
once, and the KV cache of the texts it goes on with. It takes the longer of the two, at
``efficiency`` of what the GPU can do, and ``overhead_ms``: prefill is bound by flops, decoding by
bandwidth. docs/capacity.md has the formulas beside the paper's figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from r2r.config import GpuConfig, PlanConfig

STEPS = ("respond", "read", "follow", "verify")


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters in billions; ``kv_kb``: kilobytes of KV cache per token, 0 to leave it out."""

    params_b: float
    kv_kb: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    slm: Size
    llm: Size
    router: Size


def forward(
    size: Size, gpu: GpuConfig, *, tokens: float, gpus: int, texts: float, length: float
) -> float:
    """Seconds of a forward that reads ``tokens`` new tokens, of ``texts`` of ``length`` tokens,
    with the model spread over ``gpus``."""
    flops = 2e9 * size.params_b * tokens / (gpu.tflops * 1e12)
    moved = gpu.bytes_per_param * 1e9 * size.params_b + 1e3 * size.kv_kb * texts * length
    longer = max(flops, moved / (gpu.tb_per_s * 1e12))
    return longer / (gpu.efficiency * gpus) + gpu.overhead_ms / 1000


def gpus_for(size: Size, gpu: GpuConfig) -> int:
    """How many GPUs a model is spread over, so that its weights take 60 % of their memory."""
    return math.ceil(gpu.bytes_per_param * size.params_b / (0.6 * gpu.memory_gb)) or 1


def alone(size: Size, plan: PlanConfig, gpus: int) -> float:
    """Seconds per token of an answer where ``plan.batch`` are written at once by one model."""
    length = plan.prompt_tokens + plan.answer_tokens / 2
    batch = plan.batch
    return forward(size, plan.gpu, tokens=batch, gpus=gpus, texts=batch, length=length)


def label_steps(pair: Pair, plan: PlanConfig, gpus: int) -> dict[str, float]:
    """GPU-seconds per label of each step of labelling, whose replicas have ``gpus`` GPUs.

    The LLM answers; the SLM reads; the LLM goes on at each token that differs to the end of a
    sentence; the judge reads both sentences in both orders.
    """

    def reading(size: Size, tokens: float) -> float:
        return 2e9 * size.params_b * tokens / (plan.gpu.tflops * 1e12 * plan.gpu.efficiency)

    writing = gpus * alone(pair.llm, plan, gpus) / plan.batch
    judge = Size(plan.judge_b)
    return {
        "respond": writing / plan.kept,
        "read": reading(pair.slm, 1),
        "follow": plan.mismatch * plan.sentence_tokens * writing,
        "verify": plan.mismatch * reading(judge, 2 * plan.judge_tokens),
    }


def prompt_gpu_s(plan: PlanConfig, *sizes: Size) -> float:
    """GPU-seconds that the models take to read one request's prompt."""
    flops = sum(2e9 * size.params_b * plan.prompt_tokens for size in sizes)
    return flops / (plan.gpu.tflops * 1e12 * plan.gpu.efficiency)


def replicas_for(gpu_s_per_s: float, gpus: int) -> int:
    """How many replicas of ``gpus`` GPUs do so much work, in GPU-seconds each second."""
    return max(1, math.ceil(gpu_s_per_s / gpus))


def router_size(hidden_dims: list[int], expansion: int) -> Size:
    """Of the MLP router's blocks, which are nearly all of it."""
    pairs = [*pairwise(hidden_dims), (hidden_dims[-1],) * 2] if hidden_dims else []
    return Size(sum(expansion * wide * (wide + out) for wide, out in pairs) / 1e9)
