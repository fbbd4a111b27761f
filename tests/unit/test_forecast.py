"""What speed to expect: measured forwards of real engines, what is said, kept and warned of."""

import asyncio
import json

import pytest
from finished import results as finished_results
from finished import write_run
from tiny import BANNED, EOS, Back, tiny

from r2r.engines.timing import timed
from r2r.engines.torch.engine import TorchEngine
from r2r.errors import ConfigError
from r2r.reporting.compare import forecasts
from r2r.reporting.page import PAGE, write_report
from r2r.reporting.runs import read_run
from r2r.serving.metrics import Metrics
from r2r.serving.speed import Speed
from r2r.stages.forecast import Operating, fastest, forecast, helps, operating_points, tell, warn
from r2r.throughput import Forward, Taken, Timed, Turns
from r2r.trace import Spent, Step, Trace, Usage
from r2r.workload import Work

# The LLM takes five times the SLM's time, one request or eight.
FAST = Timed(Forward({1: 1.0, 8: 1.0}), Forward({1: 5.0, 8: 5.0}), Forward({1: 5.0, 8: 5.0}), 8)
# As nano on a CPU: both much the same.
EVEN = Timed(
    Forward({1: 1.0, 8: 1.2}), Forward({1: 1.4, 8: 2.2}), Forward({1: 2.3, 8: 5.0}), 8,
    together=False,
)  # fmt: skip
CURVE = {"threshold": [0.1, 0.5, 0.9], "llm_share": [0.6, 0.3, 0.001], "recall": [1.0, 0.9, 0.1]}


def test_it_pays_below_the_share_where_both_are_as_fast():
    """One request: a token takes 1 + 5 share, of the LLM alone 5."""
    assert FAST.pays_below(1) == pytest.approx(0.8, abs=0.01)
    assert EVEN.pays_below(8) < 0.2 < FAST.pays_below(8)
    assert Timed(Forward({1: 9.0}), Forward({1: 1.0}), Forward({1: 1.0}), 8).pays_below(1) == 0


def test_longer_readings_take_longer_in_proportion():
    call = EVEN.pair(Turns.routed(1 / 4.5)).llm
    assert call(1) == pytest.approx(1.4 + 0.9 / 2)
    stitched = EVEN.pair(Turns(steps=8, tokens=10, forwards=3))
    assert stitched.llm(1) == pytest.approx((2.3 + 2 * 1.4) / 3)


def test_prompts_take_both_models():
    """One answer of a token, in 2 seconds; ten tokens of its prompt at 0.1 and 0.2 each."""
    for together, expected in ((True, 2.0), (False, 3.0)):
        here = Timed(FAST.slm, FAST.llm, FAST.reading, 8, (0.1, 0.2), together=together)
        work = Work(10, [1])
        assert 1 / work.alone(here, 1) == pytest.approx(5 + 2)
        assert 1 / work.rate(here, Turns.routed(0.5), 1) == pytest.approx(3.5 + expected, rel=0.1)


def test_at_the_end_few_are_left():
    """Two at once: 6 and 2, then 3 beside what is left of the 6; the last has one step alone."""
    assert Work(0, [6, 2, 3]).steps(2) == {2: 5, 1: 1}
    assert Work(0, [6, 2, 3]).steps(8) == {3: 2, 2: 1, 1: 3}
    assert Work(0, [6, 2, 3], parts=2).steps(2) == {2: 3, 1: 3 + 2}
    slow = Timed(FAST.slm, Forward({1: 1.0, 2: 1.0}), FAST.reading, 8)
    assert Work(0, [6, 2, 3]).alone(slow, 2) == pytest.approx(11 / 6)
    with pytest.raises(ConfigError, match="tokens of the answers"):
        Work(0, [])


def test_texts_are_as_long_as_at_some_moment_of_a_run():
    assert Work(10, [8]).texts(4) == [11, 13, 15, 17]
    assert Work(0, [2, 6]).texts(4) == [1, 1, 3, 5]


def test_where_routing_does_not_pay_the_warning_says_what_would_help(capsys):
    found = forecast(EVEN, 0.5, 8)
    assert found.routed is not None and found.routed < found.llm
    tell(found)
    warn(EVEN, found, CURVE, "cpu")
    said = capsys.readouterr().out
    assert "routing is slower than the LLM alone here" in said
    assert "threshold=0.9 (LLM share 0%, recall 10%)" in said and "systems=[llm]" in said
    assert "threshold=0.1" not in said and max(map(len, said.splitlines())) <= 80
    warn(FAST, forecast(FAST, 0.1, 8), CURVE, "cpu")
    assert capsys.readouterr().out == ""


def test_a_device_for_each_model_is_no_advice_on_a_cpu():
    found = forecast(EVEN, 0.2, 8)
    assert any("engine=sglang_two_gpus" in line for line in helps(EVEN, found, CURVE, "cuda"))
    assert not any("gpus" in line for line in helps(EVEN, found, CURVE, "cpu"))


def test_without_a_replay_only_the_bound_is_told(capsys):
    found = forecast(FAST, None, 1)
    tell(found)
    warn(FAST, found, {}, "cpu")
    said = capsys.readouterr().out
    assert found.routed is None and "routed" not in said.split(":")[1].splitlines()[0]
    assert "pays below an LLM share of 80%" in said and "warning" not in said


def test_the_fastest_point_is_no_less_accurate_than_the_best():
    points = [
        Operating("R2R at 0.1", 0.90, 0.01, Turns.routed(0.3), 540),
        Operating("R2R at 0.3", 0.89, 0.01, Turns.routed(0.1), 540),
        Operating("R2R at 0.9", 0.60, 0.01, Turns.routed(0.01), 540),
        Operating("R2R at 0.95", 1.0, 0.0, Turns.routed(0.01), 6),
    ]
    chosen = fastest(FAST, points, 4)
    assert chosen and (chosen[0].what, chosen[2]) == ("R2R at 0.3", 3)
    assert fastest(FAST, [], 4) is None
    assert fastest(FAST, points[-2:], 4) is None  # nothing to choose from


def test_points_are_those_of_the_pairs_own_evaluations(tmp_path):
    def put(name, pair, what="routed on nano", **more):
        system = {"policy": {"_target_": "r2r.policies.check.Check"}, "threshold": 0.25,
                  "router": [{"_target_": "r2r.routers.mlp.MLPRouter"}, "weights"]}  # fmt: skip
        about = {"metrics": {"accuracy": 0.9, "accuracy_stderr": 0.1, "n": 9},
                 "made": {"pair": pair, "what": what, "decides": {"system": system}}}  # fmt: skip
        folder = tmp_path / "evaluation" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(about | more))

    turns = {"steps": 4.0, "tokens": 3.0, "forwards": 1.0, "fixed": False}
    put("a", "nano", measured={"turns": turns})
    put("b", "other", measured={"turns": turns})
    put("c", "nano")
    put("d", "nano", "routed on aime", measured={"turns": turns})
    put("e", "nano", "routed on nano, validation", measured={"turns": turns})
    (point,) = operating_points(tmp_path, "nano", "nano")
    assert point.what == "Check, MLPRouter at 0.25" and point.turns == Turns(**turns)


def answer(tokens=6, calls=2):
    steps = [Step(0, "slm")] * (tokens - calls) + [Step(1, "llm")] * calls
    spent = Spent(Usage(calls, tokens), Usage(calls, calls), scored=tokens)
    return Trace([1], steps, seconds=2.0, spent=spent)


def test_turns_are_those_that_answers_have_taken():
    taken = Taken()
    assert len(list(taken.passing([answer(), answer()]))) == 2
    assert taken.turns == Turns(steps=3.0, tokens=3.0)
    assert taken.to_json(1.0)["under_way"] == 4.0


def test_both_engines_are_timed_and_nothing_is_left_in_them():
    common = {"eos_ids": EOS, "banned": BANNED, "max_batch": 3, "max_prefill_tokens": 64}
    slm = TorchEngine(model=tiny("qwen3", 32, 2, 0), router=Back(), **common)
    llm = TorchEngine(model=tiny("qwen3", 48, 3, 1), beside=slm, patience=1.5, **common)
    prompt = list(range(10, 40))
    asked = timed(slm, llm, prompt, 3, lengths=[9, 30, 12], reads=4, scored=True, together=False)
    found = asyncio.run(asked)
    assert [n for n, _ in found.slm.points] == [1, 2, 3] == [n for n, _ in found.reading.points]
    assert min(seconds for f in (found.slm, found.llm) for _, seconds in f.points) > 0
    assert slm.live() == llm.live() == 0


def test_metrics_tell_what_is_written_and_what_was_expected():
    now = [100.0]
    speed = Speed(FAST, Turns.routed(0.5), clock=lambda: now[0])
    metrics = Metrics(speed)
    for _ in range(50):
        metrics.wrote(Step(1, "slm"))
    now[0] += 5
    assert speed.now() == 5.0
    text = metrics.text(4, 0, {}, speed.expected(4)).decode()
    assert "r2r_gen_throughput 5.0" in text
    assert 'r2r_gen_throughput_expected{system="llm"} 0.8' in text
    before = speed.expected(4)["routed"]
    for _ in range(9):
        speed.answered(answer(tokens=100, calls=1))
    assert speed.expected(4)["routed"] > before
    now[0] += 20
    assert speed.now() == 0 and speed.expected(0) == {} == Speed().expected(4)


def test_the_report_sets_the_forecast_beside_what_was_measured(tmp_path):
    found = finished_results()
    found["forecast"] = {"requests": 24, "llm": 2000.0, "routed": 2500.0, "share": 0.2,
                         "pays_below": 0.3, "measured": {"llm": None, "routed": 2400.0,
                                                         "under_way": 19.6}}  # fmt: skip
    folder = write_run(tmp_path / "nano" / "1", found)
    run = read_run(folder)
    (line,) = forecasts([run])
    assert line == "routed: 2,500 tokens/s expected of 24 at once, 2,400 measured"
    write_report([run], folder)
    assert line in (folder / PAGE).read_text()
    assert line in (folder / "table.md").read_text()


def test_of_slow_models_only_small_batches_are_timed():
    common = {"eos_ids": EOS, "banned": BANNED, "max_batch": 64, "max_prefill_tokens": 64}
    slm = TorchEngine(model=tiny("qwen3", 32, 2, 0), router=Back(), **common)
    llm = TorchEngine(model=tiny("qwen3", 48, 3, 1), beside=slm, patience=1.5, **common)
    now = iter(range(10_000))  # a second passes whenever it is looked at
    asked = timed(slm, llm, list(range(10, 40)), 64, reads=4, scored=True, together=False,
                  clock=lambda: float(next(now)))  # fmt: skip
    found = asyncio.run(asked)
    assert found.most == 2
    assert Speed(found, Turns.routed(0.5)).expected(3) == {}
