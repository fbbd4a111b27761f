"""What labelling and serving a pair would take: a table, and plan.json. Loads no model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from r2r.capacity import (
    Pair,
    Size,
    forward,
    gpus_for,
    label_steps,
    prompt_gpu_s,
    replicas_for,
    router_size,
)
from r2r.config import Config, MeasuredConfig, ModelConfig, PlanConfig
from r2r.errors import must_be
from r2r.pairs import count_params_b, load_skeleton
from r2r.records import write_json
from r2r.stages.forecast import LEAST_SHARE, forecast, tell, tell_fastest, warn
from r2r.stages.screen import console, say
from r2r.throughput import Forward, Timed

ROWS = {"label": ("ours", "labels_per_s"), "routed": ("routed", "tokens_per_s"),
        "llm": ("llm", "tokens_per_s")}  # fmt: skip


def plan(config: Config, folder: Path) -> dict[str, Any]:
    """Print the estimate for ``plan``'s numbers, and write it to ``folder``.

    Raises ConfigError for values that make no sense and a measurement that cannot be read.
    """
    wanted, pair = config.plan, pair_of(config)
    measured = read_measured(wanted.measured)
    gpus = gpus_for(pair.llm, wanted.gpu)
    if wanted.gpus < gpus:
        raise must_be("plan.gpus", f"at least the {gpus} that the LLM needs", wanted.gpus)
    found = {
        "label": labelling(pair, wanted, gpus, measured.label),
        "serve": serving(pair, wanted, gpus, measured),
        "assumptions": assumptions(pair, wanted, gpus, measured),
    }
    shown(found, wanted)
    timed = roofline(pair, wanted, gpus)
    expected = forecast(timed, wanted.llm_share, wanted.batch)
    tell(expected)
    warn(timed, expected, {}, "cuda")
    tell_fastest(timed, config, wanted.batch)
    found["forecast"] = asdict(expected)
    write_json(folder / "plan.json", found | {"plan": asdict(wanted), "pair": config.pair.name})
    say("done", f"{folder / 'plan.json'}")
    return found


def roofline(pair: Pair, wanted: PlanConfig, gpus: int) -> Timed:
    """The models' forwards as ``capacity.forward`` has them, each model on GPUs of its own."""
    length = wanted.prompt_tokens + wanted.answer_tokens / 2
    reads = max(2.0, 1 / max(wanted.llm_share, LEAST_SHARE))
    sizes = sorted({1, *(2**n for n in range(wanted.batch.bit_length())), wanted.batch})

    def seconds(size: Size, many: int, tokens: float = 1.0, gpus: int = 1) -> float:
        fed = many * tokens
        return forward(size, wanted.gpu, tokens=fed, gpus=gpus, texts=many, length=length)

    def scores(many: int) -> float:
        return forward(pair.router, wanted.gpu, tokens=many, gpus=1, texts=0, length=0)

    return Timed(
        slm=Forward({n: seconds(pair.slm, n) + scores(n) for n in sizes}),
        llm=Forward({n: seconds(pair.llm, n, gpus=gpus) for n in sizes}),
        reading=Forward({n: seconds(pair.llm, n, reads, gpus) for n in sizes}),
        reads=reads,
        handoff=wanted.gpu.handoff_ms / 1000,
    )


def pair_of(config: Config) -> Pair:
    """Sizes of the run's pair and router; undeclared ones are counted without weights."""

    def params_b(model: ModelConfig, key: str) -> float:
        declared = model.params_b
        return count_params_b(load_skeleton(model, key)) if declared is None else declared

    pair = config.pair
    return Pair(
        Size(params_b(pair.slm, "pair.slm"), config.plan.slm_kv_kb),
        Size(params_b(pair.llm, "pair.llm"), config.plan.llm_kv_kb),
        router_size(pair.router.hidden_dims, pair.router.expansion),
    )


def read_measured(config: MeasuredConfig) -> MeasuredConfig:
    """GPU-seconds as given; those that are not, as ``file`` tells, at its best batch size."""
    if config.file is None:
        return config
    key, path = "plan.measured.file", Path(config.file).expanduser()
    try:
        content = json.loads(path.read_text())
        systems = content.get("systems", {})
        rows = content.get("rows") or [row | {"system": name} for name, row in systems.items()]
        told = {
            what: [
                float(row[rate])
                for row in rows
                if row.get("system") == name and row.get(rate) is not None
            ]
            for what, (name, rate) in ROWS.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise must_be(key, f"a readable JSON file of measurements ({reason})", str(path)) from None
    rates = {what: max(found) for what, found in told.items() if found and max(found) > 0}
    if not rates:
        wanted = "one with rates of the systems ours (labels_per_s), routed or llm (tokens_per_s)"
        raise must_be(key, wanted, str(path))
    unknown = {what for what in rates if getattr(config, what) is None}
    return replace(config, **{what: 1 / rates[what] for what in unknown})


def labelling(pair: Pair, wanted: PlanConfig, gpus: int, measured: float | None) -> dict[str, Any]:
    """Labels, GPU-hours by step, hours on ``plan.gpus`` and money."""
    labels = wanted.queries * wanted.answer_tokens * wanted.kept
    steps = {"as measured": measured} if measured else label_steps(pair, wanted, gpus)
    gpu_hours = {step: labels * seconds / 3600 for step, seconds in steps.items()}
    used = wanted.gpus // gpus * gpus
    total = sum(gpu_hours.values())
    return {
        "labels": labels,
        "gpu_hours": gpu_hours,
        "gpus": used,
        "hours": total / used,
        "money": total * wanted.gpu.price_per_hour,
    }


def serving(
    pair: Pair, wanted: PlanConfig, gpus: int, measured: MeasuredConfig
) -> dict[str, dict[str, float]]:
    """For the LLM alone and the routed pair: speed of an answer, GPUs, money."""
    expected = forecast(roofline(pair, wanted, gpus), wanted.llm_share, wanted.batch)
    assert expected.routed is not None
    systems = {
        "LLM": (expected.llm, measured.llm, prompt_gpu_s(wanted, pair.llm)),
        "routed": (expected.routed, measured.routed, prompt_gpu_s(wanted, pair.slm, pair.llm)),
    }
    found = {}
    for name, (rate, known, prompt) in systems.items():
        gpu_s = known or gpus / rate
        request = gpu_s * wanted.answer_tokens + (0 if known else prompt)
        needed = gpus * replicas_for(request * wanted.requests_per_s, gpus)
        price = wanted.gpu.price_per_hour
        found[name] = {
            "tokens_per_s": gpus / gpu_s,
            "answer_tokens_per_s": gpus / gpu_s / wanted.batch,
            "gpus": needed,
            "money_per_day": 24 * needed * price,
            "money_per_m_tokens": request / wanted.answer_tokens * 1e6 / 3600 * price,
        }
    return found


def assumptions(pair: Pair, wanted: PlanConfig, gpus: int, measured: MeasuredConfig) -> list[str]:
    """What the numbers rest on, a line each."""
    gpu, sizes = wanted.gpu, [pair.slm, pair.llm, pair.router]
    small, large, router = (_params(size.params_b) for size in sizes)
    lines = [
        f"SLM {small}, LLM {large} on {gpus} GPU(s), router {router};"
        f" {gpu.bytes_per_param:g} bytes a parameter",
        f"{gpu.name}: {gpu.tflops:g} TFLOP/s and {gpu.tb_per_s:g} TB/s, {gpu.efficiency:.0%} of"
        f" both reached; {gpu.overhead_ms:g} ms a forward, {gpu.handoff_ms:g} ms a handoff",
        f"a replica writes {wanted.batch} at once: answers of {wanted.answer_tokens} tokens, to"
        f" prompts of {wanted.prompt_tokens}; {wanted.llm_share:.0%} of the tokens by the LLM",
        f"labelling: {wanted.mismatch:.0%} of the tokens differ, {wanted.sentence_tokens} tokens"
        f" to the end of a sentence, {wanted.kept:.0%} of what is written kept",
        "labelling: GPUs are kept busy to the end; start-up and disks are not counted",
    ]
    if not wanted.judge_b:
        lines.append("labelling: verdicts cost nothing (plan.judge_b=0)")
    if not pair.llm.kv_kb:
        lines.append("reading the KV cache costs nothing (plan.llm_kv_kb=0)")
    known = [what for what in ROWS if getattr(measured, what)]
    if known:
        lines.append(f"measured, not estimated: {', '.join(known)}")
    return lines


def shown(found: dict[str, Any], wanted: PlanConfig) -> None:
    """On the terminal, in 80 columns."""
    label = found["label"]
    table = Table("step", "GPU-hours", "hours", "money", title=_title(label, wanted))
    for step, hours in label["gpu_hours"].items():
        table.add_row(step, *_cells(hours, label["gpus"], wanted))
    table.add_row("all", *_cells(sum(label["gpu_hours"].values()), label["gpus"], wanted))
    title = f"Serving {wanted.requests_per_s:g} requests/s"
    serve = Table("system", "GPUs", "tokens/s*", "money/day", "money/M tokens", title=title)
    for name, row in found["serve"].items():
        rate = f"{row['answer_tokens_per_s']:.3g}"
        day, tokens = f"{row['money_per_day']:,.0f}", f"{row['money_per_m_tokens']:.3g}"
        serve.add_row(name, str(row["gpus"]), rate, day, tokens)
    for each in (table, serve):
        for column in each.columns[1:]:
            column.justify = "right"
        console.print(each)
    console.print("* of one answer. Assumed:")
    for line in found["assumptions"]:
        console.print(f"- {line}", markup=False)


def _title(label: dict[str, Any], wanted: PlanConfig) -> str:
    return f"Labelling {wanted.queries:,} queries: {label['labels']:,.0f} labels"


def _cells(gpu_hours: float, gpus: int, wanted: PlanConfig) -> tuple[str, str, str]:
    money = gpu_hours * wanted.gpu.price_per_hour
    return f"{gpu_hours:.3g}", f"{gpu_hours / gpus:.3g}", f"{money:,.2f}"


def _params(params_b: float) -> str:
    power = 0 if params_b >= 1 else 3 if params_b >= 1e-3 else 6
    return f"{params_b * 10**power:.3g}{'BMK'[power // 3]}"
