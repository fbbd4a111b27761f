"""Every shipped config composes, from any folder, and passes the schema."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from r2r.config import Config
from r2r.errors import ConfigError
from r2r.stages.compose import compose, help_text
from r2r.stages.preflight import preflight
from r2r.stages.workbench import Workbench

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
NEEDED = {
    "pair=local": ["pair.slm.path=a", "pair.llm.path=b"],
    "router=trained": ["router.path=a"],
    "router=published": ["router.path=a"],
}
OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml"))
OPTIONS += [f"policy/accept={path.stem}" for path in CONF.glob("policy/accept/*.yaml")]
NEEDED |= {option: ["policy=check"] for option in OPTIONS if "/" in option}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option):
    config, _ = compose([option, *NEEDED.get(option, [])])
    assert isinstance(config, Config)


def test_the_papers_values_are_the_defaults_of_its_pair():
    config, router = compose(["pair=r1_1.5b_32b"])
    assert router == "mlp"
    assert config.router["hidden_dims"] == [1024] * 6
    assert (config.router["expansion"], config.router["dropout"]) == (4, 0.1)
    trainer = config.trainer
    assert (trainer.lr, trainer.batch_size, trainer.max_epochs) == (5e-5, 1024, 50)
    assert (trainer.betas, trainer.weight_decay, trainer.patience) == ([0.9, 0.999], 5e-4, 10)
    assert (trainer.precision, trainer.min_recall) == ("32-true", 0.95)
    assert config.benchmark.temperature == 0


def test_a_plain_word_is_a_list_of_one():
    config, _ = compose(["stages=label", "systems=llm", "benchmark.tasks=nano_qa",
                         "pair.router.hidden_dims=32", "objective=val/loss"])  # fmt: skip
    assert (config.stages, config.systems) == (["label"], ["llm"])
    assert (config.benchmark.tasks, config.objective) == (["nano_qa"], ["val/loss"])
    assert config.pair.router.hidden_dims == config.router["hidden_dims"] == [32]


def test_a_model_without_a_path_is_named():
    with pytest.raises(ConfigError, match=r"pair\.llm\.path must be given"):
        compose(["pair=local", "pair.slm.path=a"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("systems=[query_svm]", "systems must be a list of its choices, got 'query_svm'"),
        ("query_level.threshold=none", "query_level.threshold must be a number of at least 0"),
    ],
)
def test_a_baselines_mistake_is_named(override, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        compose([override])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["policy=speculative", "policy.draft_tokens=0"], "policy.draft_tokens must be at least 1"),
        (["policy=check", "policy.every=0"], "policy.every must be at least 1"),
        (["policy=check", "policy.accept.tau=-1"], "policy.accept.tau must be 0 or more"),
        (["policy=check", "policy.accept.tau=x"], "policy.accept.tau must be a valid number"),
        (["policy=check", "policy.evry=3"], "key must be one of policy's keys, got 'evry'"),
        (["policy=check", "policy.accept=ratio"], "policy.accept._target_ must be the dotted path"),
        (["policy=chek"], "policy must be a file in conf/policy, got 'chek'"),
        (["+policy.every=3"], "policy must be options of R2R, got 'every'"),
    ],
)
def test_a_policys_mistake_is_named(overrides, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        compose(overrides)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["policy=speculative", "threshold=0.5"],
         "threshold must be auto with a policy that asks no router, got 0.5"),
        (["policy=speculative", "stages=[serve]"], "policy must be one that asks a router"),
        (["policy=check", "router=oracle"], "policy must be r2r with router=oracle"),
    ],
)  # fmt: skip
def test_what_a_policy_cannot_do_is_refused_at_the_start(overrides, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        preflight(Workbench(compose(overrides)[0], "mlp"))


def test_an_experiment_composes_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), "+experiment=main_table",
               "pair=r1_1.5b_32b", "--cfg", "job"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "run: main_table" in done.stdout


def test_help_names_every_option_and_fits_80_columns():
    text = help_text(CONF)
    assert all(option.partition("=")[2] in text for option in OPTIONS)
    assert max(map(len, text.splitlines())) <= 80
