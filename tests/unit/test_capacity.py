"""The capacity plan: its arithmetic by hand, and beside the figures of the paper."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from r2r.capacity import Pair, Size, alone, forward, gpus_for, label_steps, router_size
from r2r.config import MeasuredConfig
from r2r.errors import ConfigError
from r2r.stages.compose import compose
from r2r.stages.plan import labelling, pair_of, plan, read_measured, roofline, serving
from r2r.throughput import Turns

ROOT = Path(__file__).parents[2]
PAPER = ["pair=r1_1.5b_32b", "stages=[plan]", "plan.queries=1000", "plan.answer_tokens=7600"]
PAPER_HOURS = {"respond": 35, "read": 0.1, "follow": 7, "verify": 14}  # on 8 A800, 7.6 M labels


def composed(*overrides):
    return compose(["stages=[plan]", *overrides])[0]


PLAN = composed().plan
GPU = replace(PLAN.gpu, tflops=100, tb_per_s=1, efficiency=0.5, overhead_ms=0, handoff_ms=0)


def test_decoding_is_bound_by_bandwidth_and_prefill_by_flops():
    size = Size(10)
    one = forward(size, GPU, tokens=1, gpus=1, texts=0, length=0)
    assert one == pytest.approx(20e9 / 1e12 / 0.5)
    assert one == forward(size, GPU, tokens=99, gpus=1, texts=0, length=0)
    many = forward(size, GPU, tokens=1000, gpus=1, texts=0, length=0)
    assert many == pytest.approx(2 * 10e9 * 1000 / 100e12 / 0.5)
    assert forward(size, GPU, tokens=1, gpus=2, texts=0, length=0) == pytest.approx(one / 2)
    late = forward(size, replace(GPU, overhead_ms=3), tokens=1, gpus=1, texts=0, length=0)
    assert late == pytest.approx(one + 0.003)


def test_the_kv_cache_is_read_too():
    read = forward(Size(10, kv_kb=100), GPU, tokens=4, gpus=1, texts=4, length=5000)
    assert read == pytest.approx((20e9 + 4 * 5000 * 100e3) / 1e12 / 0.5)


def test_a_model_is_spread_so_that_room_is_left():
    assert [gpus_for(Size(size), PLAN.gpu) for size in (0.001, 24, 32, 72)] == [1, 1, 2, 3]


def test_a_single_request_waits_for_every_part():
    plan = replace(PLAN, batch=1, llm_share=0.25, gpu=replace(GPU, handoff_ms=5))
    timed = roofline(Pair(Size(1), Size(10), Size(0)), plan, gpus=1)
    assert timed.slm(1) == pytest.approx(alone(Size(1), plan, 1)) == pytest.approx(0.004)
    token = 1 / timed.rate(Turns.routed(0.25), 1)
    assert token == pytest.approx(0.004 + 0.25 * (0.04 + 0.005))


def test_the_paper_is_2_8_times_as_fast_as_its_llm():
    """On two A800, one request; there the LLM takes 65 % of the time and the router 6 %."""
    config = composed(*PAPER, "plan.batch=1")
    pair = pair_of(config)
    timed, share = roofline(pair, config.plan, gpus=2), config.plan.llm_share
    token = 1 / timed.rate(Turns.routed(share), 1)
    assert alone(pair.llm, config.plan, 2) / token == pytest.approx(2.8, abs=0.2)
    assert share * (timed.reading(1) + timed.handoff) / token == pytest.approx(0.65, abs=0.05)
    router = timed.slm(1) - alone(pair.slm, config.plan, 1)
    assert router / token == pytest.approx(0.06, abs=0.03)
    served = serving(pair, config.plan, 2, MeasuredConfig())
    assert served["LLM"]["money_per_m_tokens"] / served["routed"]["money_per_m_tokens"] > 2.5


def test_the_papers_labelling_as_measured_takes_its_56_hours():
    config = composed(*PAPER)
    per_label = 56 * 8 * 3600 / 7.6e6
    found = labelling(pair_of(config), config.plan, 2, per_label)
    assert (found["labels"], found["hours"]) == (7.6e6, pytest.approx(56, rel=0.01))
    assert found["money"] == pytest.approx(56 * 8 * config.plan.gpu.price_per_hour, rel=0.01)


def test_the_roofline_bounds_the_papers_labelling_from_below():
    """Its verdicts, of one order each and by a model of 72 B, take what the roofline says; its
    answers took longer than even one at a time would."""
    config = composed(*PAPER, "plan.batch=64", "plan.judge_b=72")
    steps = label_steps(pair_of(config), config.plan, 2)
    hours = {step: 7.6e6 * seconds / 3600 / 8 for step, seconds in steps.items()}
    hours["verify"] /= 2
    assert all(hours[step] < told for step, told in PAPER_HOURS.items())
    assert hours["verify"] == pytest.approx(14, rel=0.3)
    slowly = label_steps(pair_of(config), replace(config.plan, batch=1), 2)["respond"]
    assert 10 < 7.6e6 * slowly / 3600 / 8 < 35


def test_the_routers_size_is_that_of_its_blocks():
    assert router_size([1024] * 6, 4).params_b == pytest.approx(0.0563, rel=0.15)
    assert router_size([], 4).params_b == 0


def test_measured_costs_come_from_a_run_or_a_benchmark(tmp_path):
    path = tmp_path / "results.json"
    rates = {"routed": {"tokens_per_s": 50.0}, "llm": {"tokens_per_s": 20.0}, "slm": {}}
    path.write_text(json.dumps({"systems": rates}))
    found = read_measured(MeasuredConfig(file=str(path), llm=0.1))
    assert (found.label, found.routed, found.llm) == (None, 0.02, 0.1)
    rows = [{"system": "ours", "labels_per_s": 4.0}, {"system": "naive", "labels_per_s": 9.0}]
    path.write_text(json.dumps({"rows": rows}))
    assert read_measured(MeasuredConfig(file=str(path))).label == 0.25


@pytest.mark.parametrize("content", ["no json", "[]", '{"rows": []}', '{"rows": [1]}', "{}"])
def test_a_file_without_measurements_is_refused(tmp_path, content):
    path = tmp_path / "measured.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"plan\.measured\.file must be") as failed:
        read_measured(MeasuredConfig(file=str(path)))
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("pair", ["nano", "r1_1.5b_32b", "qwen3_0.6b_8b"])
def test_any_pair_is_planned_without_its_weights(tmp_path, pair, capsys):
    found = plan(composed(f"pair={pair}"), tmp_path)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["label"] == found["label"] and written["pair"] == pair
    assert found["serve"]["LLM"]["gpus"] >= 1
    printed = capsys.readouterr().out
    assert all(line[:40] in printed for line in found["assumptions"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("plan.gpus=1", "at least the 2 that the LLM needs"),
        ("plan.llm_share=1.5", "a share, from 0 to 1"),
        ("plan.gpu.tflops=0", "above 0"),
        ("plan.batch=0", "at least 1"),
        ("stages=[plan,label]", r"\[plan\] alone"),
    ],
)
def test_senseless_values_are_refused(tmp_path, override, told):
    with pytest.raises(ConfigError, match=told):
        plan(composed("pair=r1_1.5b_32b", override), tmp_path)


FORECASTS = re.findall(
    r"^\| `(\w[\w.]+)` \| (\d) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$",
    (ROOT / "docs" / "gpus.md").read_text(),
    flags=re.MULTILINE,
)


@pytest.mark.parametrize(("pair", "gpus", "hours", "llm", "routed"), FORECASTS)
def test_the_forecasts_of_the_page_are_the_plans(tmp_path, pair, gpus, hours, llm, routed):
    assert len(FORECASTS) == 5
    given = ["plan.queries=1000", "plan.answer_tokens=7600", f"plan.gpus={gpus}"]
    found = plan(composed(f"pair={pair}", *given), tmp_path)
    speeds = [found["serve"][name]["answer_tokens_per_s"] for name in ("LLM", "routed")]
    figures = [sum(found["label"]["gpu_hours"].values()), *speeds]
    wanted = [float(hours), float(llm), float(routed)]
    assert figures == pytest.approx(wanted, rel=0.01)
