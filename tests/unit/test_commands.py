"""What each command says of itself, without a model and in no time."""

import itertools
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import r2r
from r2r.errors import ConfigError
from r2r.stages import command, lm_eval_cli, screen, serve_cli
from r2r.stages.compose import STAGES, compose
from r2r.stages.screen import next_command

FIRST = [s for s in STAGES if s not in ("serve", "plan", "artifacts")]
COMMANDS = {
    "run.py": (command.main, "Groups (the first is the default):"),
    "r2r-serve": (serve_cli.main, "serve.api_key_env"),
    "r2r-eval": (lm_eval_cli.main, "--model_args KEY=VALUE"),
}


def said(monkeypatch, capsys, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert not COMMANDS[name][0]()
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(monkeypatch, capsys, name, flag):
    monkeypatch.setenv("COLUMNS", "80")
    text = said(monkeypatch, capsys, name, flag)
    assert COMMANDS[name][1] in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_version(monkeypatch, capsys, name):
    assert said(monkeypatch, capsys, name, "--version").startswith(f"r2r {r2r.__version__}")


def refused(monkeypatch, capsys, tmp_path, *arguments, **model_args):
    given = {"outputs": tmp_path, "system": "slm"} | model_args
    listed = ",".join(f"{key}={value}" for key, value in given.items())
    monkeypatch.setattr(sys, "argv", ["r2r-eval", "--model_args", listed, *arguments])
    monkeypatch.setattr("lm_eval.utils.setup_logging", lambda: None)  # it would keep our stderr
    assert lm_eval_cli.main() == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("error: ")
    return err[-1]


@pytest.mark.parametrize(
    ("module", "error", "told"),
    [
        ("datasets.load", ConnectionError("no hub"), "--tasks must be tasks whose data is here"),
        ("lm_eval.api.model", TypeError("missing 'pretrained'"), "missing 'pretrained'"),
    ],
)
def test_what_lm_eval_cannot_do_is_one_line(module, error, told):
    with pytest.raises(ConfigError, match=told), lm_eval_cli._one_line():
        exec("raise error", {"__name__": module, "error": error})
    with pytest.raises(type(error)), lm_eval_cli._one_line():  # a fault stays one
        exec("raise again", {"__name__": "r2r.engines", "again": type(error)("ours")})


OURS = ("--tasks", "r2r_nano_math")


def test_what_r2r_eval_refuses_before_anything_is_loaded(monkeypatch, capsys, tmp_path):
    def line(*arguments, **model_args):
        return refused(monkeypatch, capsys, tmp_path, *arguments, **model_args)

    told = line(*OURS, system="routd")
    assert "system must be" in told and "did you mean 'routed'?" in told
    assert "run.py stages=[label,train]" in line(*OURS, system="routed")
    assert "did you mean 'threshold'?" in line(*OURS, thresold=0.1)
    assert "did you mean 'r2r_nano_math'?" in line("--tasks", "nano_math")
    assert "--include_path must be" in line(*OURS, "--include_path", str(tmp_path / "none"))
    assert "--output_path" in line(*OURS, "--log_samples")
    told = line(*OURS, **{"benchmark.data_files.gsm8k": "rows.jsonl"})
    assert "did you mean 'benchmark=gsm8k benchmark.data_files.gsm8k=...'?" in told
    assert "engine.device must be" in line(*OURS, "--device", "cuda:9")
    assert "engine.max_batch" in line(*OURS, "--batch_size", "-3")


def test_tasks_of_likelihoods_are_refused_before_the_model_is_loaded(tmp_path):
    from r2r.errors import ConfigError
    from r2r.stages.lm_eval_model import _manager, workbench

    (tmp_path / "scored.yaml").write_text(
        "task: scored\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "doc_to_text: q\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"q": "1?"}\n')
    import lm_eval.api.registry
    from lm_eval.tasks import TaskManager

    assert lm_eval.api.registry.get_model("hf")  # lm-eval's own are still there
    bench, system = workbench({"system": "slm", "outputs": str(tmp_path)})
    assert system == "slm"
    manager = _manager(TaskManager, bench.config.benchmark)(
        include_path=str(tmp_path), include_defaults=False
    )
    assert {"scored", "r2r_nano_math", "r2r_gsm8k"} <= set(manager.all_tasks)
    assert "gsm8k" not in manager.all_tasks
    with pytest.raises(ConfigError, match=r"--tasks must be tasks that generate.*'scored'"):
        manager.load(["scored"])


def test_an_error_on_a_terminal_is_broken_between_words(monkeypatch, capsys):
    from r2r.errors import must_be, tell

    error = must_be("pair", "a file in conf/pair", "nanno", ["nano", "qwen3_0.6b_8b"] * 9)
    monkeypatch.setenv("COLUMNS", "80")
    tell(error)
    assert capsys.readouterr().err == f"error: {error}\n"  # piped: one line
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tell(error)
    said = capsys.readouterr().err
    assert said.startswith(
        "error: pair must be a file in conf/pair, got 'nanno'; did you mean 'nano'?"
    )
    assert max(map(len, said.splitlines())) <= 80
    assert said.split() == f"error: {error}".split()


def test_a_flag_is_no_option_of_the_server_either(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["r2r-serve", "--port", "9000"])
    assert serve_cli.main() == 2
    assert "did you mean 'serve.port=9000'?" in capsys.readouterr().err


DONE = [
    [stage for stage, on in zip(FIRST, mask, strict=True) if on]
    for mask in itertools.product((False, True), repeat=len(FIRST))
    if any(mask)
]


@pytest.mark.parametrize("stages", DONE, ids=",".join)
def test_the_next_command_composes_and_goes_on(monkeypatch, stages):
    """After every combination of stages, a command whose stages read nothing that is not there."""
    monkeypatch.setattr(sys, "argv", ["run.py"])
    for more in ([], ["systems=llm"], ["router=oracle"], ["policy=speculative"],
                 ["threshold=0.3", "force=true", "run=mine", "trace.problem=2"]):  # fmt: skip
        given = ["pair=nano", f"stages=[{','.join(stages)}]", *more]
        config, _ = compose([part for part in given if not part.startswith("run=")])
        asks = more[:1] not in (["router=oracle"], ["policy=speculative"])
        command = next_command(config, given, asks)
        if command is None:
            assert not asks
            continue
        words = shlex.split(command)
        assert words[1] == "run.py" and "force=true" not in words
        after, _ = compose([part for part in words[2:] if not part.startswith("run=")])
        assert after.pair.name == "nano"
        reads = {"evaluate": "train", "report": "evaluate", "trace": "evaluate"}
        for stage in after.stages:
            # a router is there where one was trained, scored or calibrated
            there = {"train"} if set(stages) - {"label"} else set()
            there |= {"evaluate"} if set(stages) & {"evaluate", "report", "trace"} else set()
            before = {*after.stages[: after.stages.index(stage)], *there}
            assert stage not in reads or reads[stage] in before, (stages, command)
        if after.stages == config.stages and "systems=llm" not in more:
            assert "+sweep=threshold" in words, "the same again"


def test_the_next_command_runs_where_it_is_printed(monkeypatch, tmp_path):
    config, _ = compose(["pair=nano"])
    monkeypatch.setattr(shutil, "which", lambda _: None)  # no environment is active
    monkeypatch.setattr(sys, "argv", ["/some/where/r2r/__main__.py"])
    monkeypatch.chdir(tmp_path)
    words = shlex.split(str(next_command(config, ["pair=nano"], True)))
    assert words == [str(Path(sys.executable).absolute()), "-m", "r2r", "pair=nano",
                     "stages=[trace]"]  # fmt: skip


def test_the_sweep_after_a_trace_shows_no_problem():
    given = ["stages=[trace]", "trace.problem=3"]
    config, _ = compose(given)
    words = shlex.split(str(next_command(config, given, True)))
    assert "+sweep=threshold" in words and not any(word.startswith("trace") for word in words)


@pytest.mark.slow
def test_from_next_command_to_next_command(tmp_path):
    """From labels alone to the last one, each as it was printed."""
    root = Path(__file__).parents[2]
    small = ["labeler.prompts.limit=100", "benchmark.limit=1", "trainer.max_epochs=1",
             "benchmark.tasks=nano_math", "systems=[slm,routed]"]  # fmt: skip
    command = [sys.executable, str(root / "run.py"), "stages=label", *small, f"outputs={tmp_path}"]
    printed = []
    while "+sweep=threshold" not in command:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, (command, done.stderr)
        told = [line for line in done.stdout.splitlines() if line.startswith("next ")]
        assert len(told) == 1 and told[0] not in printed
        assert done.stdout.count("threshold ") <= 1 or "at threshold" in done.stdout
        printed += told
        command = shlex.split(told[0].removeprefix("next"))
    assert len(printed) == 3


def test_labels_ask_the_train_split_while_lm_eval_scores_the_test_split(monkeypatch):
    import lm_eval.tasks

    from r2r.evaluation.harness import prompts
    from r2r.stages.lm_eval_model import _manager

    benchmark = compose(["benchmark.limit=5"])[0].benchmark
    asked = prompts(benchmark, "train")
    manager = _manager(lm_eval.tasks.TaskManager, benchmark)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)
    assert prompts(benchmark, "train") == asked != prompts(benchmark, "test")


def test_a_training_without_a_terminal_tells_its_epochs(monkeypatch, capsys):
    monkeypatch.setattr(screen, "LINE_S", 0.0)
    with screen.bar("train", STAGES) as move:
        move(3, 40, "val loss 0.1000")
    assert capsys.readouterr().out == "train     3 of at most 40 epochs, val loss 0.1000\n"
