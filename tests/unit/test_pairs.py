"""A pair is checked once: what was found is kept until one of its files changes."""

import json
import shutil
from pathlib import Path

import pytest

from r2r import pairs
from r2r.errors import ConfigError
from r2r.pairs import ModelPair
from r2r.stages.compose import compose

NANO = Path(pairs.__file__).parent / "assets" / "nano"
FOUND = ("route_id", "context_length", "eos_ids", "chat_template")


@pytest.fixture
def config(tmp_path):
    folder = shutil.copytree(NANO, tmp_path / "nano")
    paths = [f"pair.{name}.path={folder / name}" for name in ("slm", "llm")]
    return compose(["pair=local", *paths])[0].pair


def refuse(*_):
    raise AssertionError("a pair that is known was checked again")


def test_a_known_pair_is_not_checked_again(config, tmp_path, monkeypatch):
    first = ModelPair(config, tmp_path / "known")
    first.remember()
    monkeypatch.setattr(pairs, "load_config", refuse)
    with monkeypatch.context() as patched:
        patched.setattr(pairs, "load_tokenizer", refuse)
        again = ModelPair(config, tmp_path / "known")
    assert [getattr(again, name) for name in FOUND] == [getattr(first, name) for name in FOUND]
    assert again.identity() == first.identity()
    assert again.encode("1+1?") == first.encode("1+1?")


def test_a_changed_file_or_option_is_seen(config, tmp_path):
    ModelPair(config, tmp_path / "known").remember()
    config.context_length = 10**6
    with pytest.raises(ConfigError, match=r"pair\.context_length must be at most"):
        ModelPair(config, tmp_path / "known")
    config.context_length = None
    file = Path(config.slm.path) / "tokenizer.json"
    content = json.loads(file.read_text())
    vocab = content["model"]["vocab"]
    one, other = list(vocab)[-2:]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"must be models of one tokenizer"):
        ModelPair(config, tmp_path / "known")
