"""The whole job as a user runs it: results, reuse, resume after SIGKILL, other pairs, W&B."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from job import SMALL, assert_same, numbers, only, results, run, same_files, samples, start
from transformers import AutoConfig, AutoModelForCausalLM

from r2r.engines.base import Sampling
from r2r.policies.base import Prompt
from r2r.stages.compose import compose
from r2r.stages.earlier import answers_like, labelled_like
from r2r.stages.fingerprints import evaluation, labels
from r2r.stages.main import run as run_stages
from r2r.stages.systems import make_generator
from r2r.stages.workbench import Workbench

ROOT = Path(__file__).parents[2]
NANO = ROOT / "src" / "r2r" / "assets" / "nano"
FIGURES = {"accuracy", "accuracy_stderr", "n", "llm_share", "avg_params_b",
           "avg_params_published_b", "cost", "output_tokens", "seconds",
           "tokens_per_s"}  # fmt: skip

pytestmark = pytest.mark.slow


@dataclass
class Job:
    """A finished main job: where it is, what it printed, its results, how long it took."""

    outputs: Path
    screen: str
    results: dict
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Job:
    outputs = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    screen = run(outputs, "router=mlp", "threshold=0.1")
    return Job(outputs, screen, results(outputs), time.monotonic() - began)


def test_the_main_job_leaves_what_it_promises(undisturbed):
    outputs, found = undisturbed.outputs, undisturbed.results
    folder = outputs / "latest"
    assert (found["pair"], found["benchmark"], found["threshold"]) == ("nano", "nano", 0.1)
    assert list(found["systems"]) == ["slm", "mid", "llm", "routed", "query_random"]
    for figures in found["systems"].values():
        assert figures.keys() >= FIGURES
        assert figures["n"] == 24
    slm, llm, routed = (found["systems"][name] for name in ("slm", "llm", "routed"))
    assert slm["llm_share"] == 0 and llm["llm_share"] == 1 and 0 < routed["llm_share"] < 1
    assert routed["avg_params_b"] > routed["avg_params_published_b"] > slm["avg_params_b"]
    names = ["config.yaml", "manifest.json", "results.json", "table.md", "table.tex",
             "table.csv", "report.html", "figures/pareto.png", "traces.md", "samples"]  # fmt: skip
    assert all((folder / name).exists() for name in names)
    assert not os.path.lexists(outputs.parent / "latest")
    samples = [json.loads(line) for line in (folder / "samples" / "routed.jsonl").open()]
    by_llm = sum(sum(sample["trace"]["llm"]) for sample in samples)
    tokens = sum(len(sample["trace"]["tokens"]) for sample in samples)
    assert by_llm / tokens == pytest.approx(routed["llm_share"])
    assert np.mean([sample["correct"] for sample in samples]) == routed["accuracy"]
    lines = undisturbed.screen.splitlines()
    assert [line for line in lines if len(line) > 80 and str(outputs) not in line] == []


def test_another_threshold_neither_labels_nor_trains_again(undisturbed, tmp_path):
    outputs = shutil.copytree(undisturbed.outputs, tmp_path / "outputs", symlinks=True)
    artifacts = outputs / "artifacts"
    before = {kind: set(os.listdir(artifacts / kind)) for kind in ("labels", "router")}
    screen = run(outputs, "router=mlp", "threshold=0.3").splitlines()
    assert {kind: set(os.listdir(artifacts / kind)) for kind in before} == before
    told = [line for line in screen if line.startswith(("label", "train", "evaluate"))]
    told = [line for line in told if ends(line)]
    assert [("(reused)" in line) for line in told] == [True] * 5 + [False]


def test_a_cached_run_loads_no_model(undisturbed, tmp_path, monkeypatch):
    outputs = shutil.copytree(undisturbed.outputs, tmp_path / "outputs", symlinks=True)
    for name in ("load", "model"):
        monkeypatch.setattr(Workbench, name, lambda *_: pytest.fail("a model was loaded"))
    told = [*SMALL, "router=mlp", "threshold=0.1", f"outputs={outputs}"]
    config, router_name = compose(told)
    again = run_stages(config, tmp_path / "again", router_name, told)
    assert again.reused == ["labels", "router", "calibration", "slm", "mid", "llm", "routed"]
    latest = undisturbed.outputs / "latest"
    for name in ("traces.jsonl", "calibration.json"):
        assert (tmp_path / "again" / name).read_bytes() == (latest / name).read_bytes()
    told_again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert numbers(told_again) == numbers(undisturbed.results)


def test_killed_at_random_moments_it_ends_the_same(undisturbed, tmp_path):
    outputs = undisturbed.outputs
    rng = random.Random(0)
    disturbed = tmp_path / "disturbed"
    kills, seconds = 0, undisturbed.seconds
    while kills < 4:
        process = start(disturbed, "router=mlp", "threshold=0.1")
        try:
            process.wait(timeout=rng.uniform(0.3, 0.9) * seconds)
            if kills:
                break  # what the killed runs had left to do was less than that
            shutil.rmtree(disturbed)  # the machine is faster now than it was
            seconds /= 2
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    run(disturbed, "router=mlp", "threshold=0.1")
    assert kills >= 1
    assert_same(outputs, disturbed)


def test_at_once_on_the_same_outputs_each_artifact_is_made_once(undisturbed, tmp_path):
    """Two of one config, and one of another threshold."""
    thresholds = ("0.1", "0.1", "0.3")
    jobs = [start(tmp_path, "router=mlp", f"threshold={threshold}") for threshold in thresholds]
    told = [job.communicate(timeout=500) for job in jobs]
    assert [(job.returncode, err) for job, (_, err) in zip(jobs, told, strict=True)] == [
        (0, "")
    ] * 3
    screens = [out for out, _ in told]
    for made in ("label ", "train ", "calibrate ", "evaluate  slm: ", "evaluate  llm: "):
        lines = [told_by(made, out) for out in screens]
        assert sum("(reused)" not in line for line in lines) == 1, lines
    folders = sorted((tmp_path / "nano_mlp").iterdir())
    found = [json.loads((folder / "results.json").read_text()) for folder in folders]
    assert sorted(each["threshold"] for each in found) == [0.1, 0.1, 0.3]
    for each in found:
        same = each["threshold"] == 0.1
        for system in ("slm", "mid", "llm", *(["routed"] if same else [])):
            assert numbers(each)[system] == numbers(undisturbed.results)[system]
    for kind in ("labels", "router"):
        same_files(
            *(only(outputs / "artifacts" / kind) for outputs in (undisturbed.outputs, tmp_path))
        )


def told_by(stage: str, screen: str) -> str:
    return next(x for x in screen.splitlines() if x.startswith(stage) and ends(x))


def ends(line: str) -> bool:
    """Whether it tells how a stage ended: not what it is about to do, waits for or warns of."""
    other = (
        "examples to read",
        "another run",
        "warning",
        "control pairs",
        "prompts of",
        " under way",
    )
    return not any(words in line for words in other)


def test_any_two_folders_are_a_pair(tmp_path):
    for name in ("slm", "llm"):
        shutil.copytree(NANO / name, tmp_path / name)
    paths = [f"pair.{name}.path={tmp_path / name}" for name in ("slm", "llm")]
    run(tmp_path / "outputs", "pair=local", *paths, "pair.think_end='</think>'",
        "pair.max_new_tokens=160", "pair.router.hidden_dims=[32]",
        "threshold=auto")  # fmt: skip
    found = results(tmp_path / "outputs")
    assert list(found["systems"]) == ["slm", "llm", "routed", "query_random"]
    assert 0 < found["threshold"] < 1


def test_a_router_of_another_pair_is_refused(undisturbed, tmp_path):
    (router,) = (undisturbed.outputs / "artifacts" / "router").iterdir()
    process = start(tmp_path, f"pair.slm.path={NANO / 'mid'}", "router=trained",
                    f"router.path={router}", "stages=[evaluate]")  # fmt: skip
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2
    assert err.startswith("error: router.path must be a router trained for pair nano")
    assert len(err.splitlines()) == 1


def test_a_trained_router_is_used_by_its_path(undisturbed, tmp_path):
    (router,) = (undisturbed.outputs / "artifacts" / "router").iterdir()
    run(tmp_path, "router=trained", f"router.path={router}", "threshold=0.1",
        "systems=[routed]")  # fmt: skip
    assert numbers(results(tmp_path))["routed"] == numbers(undisturbed.results)["routed"]


def test_the_baselines_answer_the_same_problems(undisturbed):
    outputs, before = undisturbed.outputs, undisturbed.results["systems"]
    systems = "[slm,llm,routed,query_sw,query_knn,query_linear,query_mlp,query_mf]"
    run(outputs, "router=mlp", "threshold=0.1", f"systems={systems}")
    found = results(outputs)
    folder = outputs / "latest" / "samples"
    alone = {name: samples(folder / f"{name}.jsonl") for name in ("slm", "llm")}
    step = before["llm"]["avg_params_b"] / before["llm"]["n"]  # a problem more by the LLM
    for name in ("query_sw", "query_knn", "query_linear", "query_mlp", "query_mf"):
        figures = found["systems"][name]
        assert abs(figures["avg_params_b"] - before["routed"]["avg_params_b"]) < 2 * step
        chosen = samples(folder / f"{name}.jsonl")
        for sample, small, large in zip(chosen, alone["slm"], alone["llm"], strict=True):
            assert sample["id"] == small["id"] == large["id"]
            assert sample["trace"] in (small["trace"], large["trace"])
        assert figures["accuracy"] == np.mean([sample["correct"] for sample in chosen])
    others = [d["other"] for d in found["differences"]]
    assert others == [name for name in found["systems"] if name != "routed"]


def test_speculative_decoding_asks_no_router(tmp_path, undisturbed):
    """Nothing is labelled or trained for it, and its answers are the LLM's."""
    run(tmp_path, "policy=speculative", "systems=[llm,routed]")
    found = results(tmp_path)
    assert (found["policy"], found["threshold"], found["router_id"]) == ("speculative", None, None)
    exact, llm = found["systems"]["routed"], found["systems"]["llm"]
    assert numbers(found)["llm"] == numbers(undisturbed.results)["llm"]
    assert exact["accuracy"] == llm["accuracy"]
    assert exact["output_tokens"] == llm["output_tokens"]
    assert 0 < exact["acceptance"] < 1
    assert exact["avg_params_published_b"] < llm["avg_params_b"] < exact["avg_params_b"]
    # A round whose last draft ends the answer has no token of the LLM's own.
    assert exact["llm_share"] <= exact["llm_forwards_per_token"] < llm["llm_forwards_per_token"]
    kinds = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert kinds.isdisjoint({"labels", "router"})


def test_how_long_texts_get_is_known_from_earlier_runs(undisturbed):
    """Of other systems' answers to the same problems, of labels' answers, of queries labelled."""

    def bench(*options):
        return Workbench(*compose([*SMALL, f"outputs={undisturbed.outputs}", *options]))

    figures = undisturbed.results["systems"]
    alike = answers_like(evaluation(bench("threshold=0.5"), "routed"))
    written = ("slm", "mid", "llm", "routed")
    assert len(alike) == 24 * len(written)
    assert sum(alike) == sum(24 * figures[name]["output_tokens"] for name in written)
    own = answers_like(evaluation(bench(), "slm"))
    assert len(own) == len(alike) - 24

    manifests = (undisturbed.outputs / "artifacts" / "labels").glob("*/shard-*/manifest.json")
    shards = [json.loads(path.read_text()) for path in manifests]
    labelled, answers = labelled_like(labels(bench("labeler.prompts.limit=100")))
    assert sorted(labelled) == sorted(n for shard in shards for n in shard["tokens"])
    assert answers == sum(shard["counts"]["rows"] for shard in shards) / sum(labelled) < 0.9
    assert labelled_like(labels(bench())) == ([], 1.0)  # they are its own, and kept
    assert labelled_like(labels(bench("labeler=likelihood"))) == ([], 1.0)
    others = answers_like(evaluation(bench("benchmark.tasks=[nano_math]"), "llm"))
    assert sum(others) == sum(shard["counts"]["rows"] for shard in shards)
    assert answers_like(evaluation(bench("benchmark.max_new_tokens=80"), "llm")) == []


def test_what_is_damaged_of_earlier_runs_is_done_without(undisturbed, tmp_path):
    outputs = shutil.copytree(undisturbed.outputs, tmp_path / "outputs", symlinks=True)
    for broken in ("labels/*/shard-*/data_id.npy", "labels/*/shard-*/manifest.json"):
        for path in (outputs / "artifacts").glob(broken):
            path.write_bytes(b"[1")
    for path in (outputs / "artifacts").glob("evaluation/*/manifest.json"):
        path.write_text("[]")
    bench = Workbench(*compose([*SMALL, f"outputs={outputs}", "labeler.prompts.limit=100"]))
    assert labelled_like(labels(bench)) == ([], 1.0)
    assert answers_like(evaluation(bench, "slm")) == []


def test_a_query_level_route_answers_by_itself(undisturbed):
    """As a generator, with a threshold of its own: 0 is the LLM for every question."""
    outputs = undisturbed.outputs
    config, router = compose([*SMALL, f"outputs={outputs}", "query_level.threshold=0"])
    generator, _ = make_generator(Workbench(config, router), "query_sw")
    sample = samples(outputs / "latest" / "samples" / "llm.jsonl")[0]
    prompt = Prompt(sample["trace"]["prompt"], Sampling(160))
    (trace,) = generator.generate([prompt])
    assert [step.token for step in trace.steps] == sample["trace"]["tokens"]


def test_wandb_offline_holds_curves_results_and_traces(undisturbed):
    outputs = undisturbed.outputs
    run(outputs, "router=mlp", "threshold=0.1", "logger=wandb", env={"WANDB_MODE": "offline"})
    (logged,) = (outputs / "latest" / "wandb").glob("offline-run-*")
    assert list(logged.glob("run-*.wandb"))
    media = [path.name for path in logged.rglob("*") if path.is_file()]
    assert any(name.startswith("results_") for name in media)
    assert any(name.startswith("traces_") for name in media)
    assert any(name.startswith("pareto_") for name in media)


def test_lm_evals_own_command_line(undisturbed):
    """r2r-eval scores a system as the evaluate stage does."""
    outputs = undisturbed.outputs
    arguments = ",".join(["system=slm", f"outputs={outputs}", *SMALL])
    done = subprocess.run(
        [sys.executable, "-m", "r2r.stages.lm_eval_cli", "--model", "r2r", "--model_args",
         arguments, "--tasks", "r2r_nano_math", "--limit", "8",
         "--output_path", str(outputs / "lm_eval")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (written,) = (outputs / "lm_eval").rglob("results_*.json")
    found = json.loads(written.read_text())["results"]["r2r_nano_math"]
    expected = undisturbed.results["systems"]["slm"]["tasks"]["nano_math"]
    assert found["accuracy,none"] == pytest.approx(expected["accuracy"])
    assert found["llm_share,none"] == 0


def test_a_judge_that_cannot_tell_control_pairs_apart_is_refused(tmp_path):
    judge = tmp_path / "judge"
    shutil.copytree(NANO / "llm", judge, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(judge, max_position_embeddings=4096)
    AutoModelForCausalLM.from_config(config).save_pretrained(judge)
    refused = start(
        tmp_path, "stages=[label]", "labeler=judge", f"labeler.judge.path={judge}",
        "labeler.prompts.limit=4",
    )  # fmt: skip
    line = refused.communicate(timeout=500)[1].splitlines()[-1]
    assert refused.returncode
    assert "labeler.judge must tell wording from content" in line and "got 0.00: 0 of 12" in line
