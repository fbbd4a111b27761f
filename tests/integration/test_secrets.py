"""Secrets of the environment are in nothing that a run writes or prints."""

import pytest
from job import SMALL, start

from r2r.errors import ConfigError
from r2r.stages.compose import compose

SECRETS = {
    "WANDB_API_KEY": "5ec2e700" * 5,
    "HF_TOKEN": "hf_5ec2e711abcdefghijklmnopqrstuvwx",
    "OPENAI_API_KEY": "sk-5ec2e722",
    "MY_JUDGE_KEY": "5ec2e733judge",
    "MY_SERVER_KEY": "5ec2e744server",
}


@pytest.mark.slow
def test_secrets_are_in_no_file_and_no_line(tmp_path):
    outputs = tmp_path / "outputs"
    process = start(
        outputs, "logger=wandb", "router=entropy", "systems=[slm,routed]", "threshold=auto",
        "+labeler.judge.api_key_env=MY_JUDGE_KEY", "+benchmark.judge.api_key_env=MY_JUDGE_KEY",
        "serve.api_key_env=MY_SERVER_KEY", small=[*SMALL, "labeler.prompts.limit=40"],
        env=SECRETS | {"WANDB_MODE": "offline"},
    )  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert list(outputs.glob("nano_entropy/*/wandb/offline-run-*/*.wandb"))
    for name, secret in SECRETS.items():
        assert secret not in out + err, name
        assert [path for path in files if secret.encode() in path.read_bytes()] == [], name


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["labeler=judge", "labeler.judge.url=http://me:5ec2e7@judge/v1"], "labeler.judge.url"),
        (["engine=sglang", "+engine.sglang.slm.args.api-key=5ec2e7"], "engine.sglang.slm.args"),
        (["engine=sglang_remote", "engine.sglang.llm.url=http://5ec2e7@host"], "engine.sglang.llm"),
    ],
)
def test_a_secret_in_the_config_is_refused_and_not_repeated(overrides, key):
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    assert str(error.value).startswith(key) and "5ec2e7" not in str(error.value)
