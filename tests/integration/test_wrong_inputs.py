"""Wrong inputs: command line, config, data, checkpoints. Each is one line that names what is wrong
and what would be right, exit code 2, and nothing half-written.

Wrong requests to the server are in test_serving_schema.py and test_hostile_requests.py.
"""

import gzip
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from wrong import half_written, refused

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano"
GOOD = '{"family": "math", "question": "1+1?", "answer": "2"}\n'

COMMAND_LINE = [
    ("router=foo", ["router must be", "'foo'", "entropy", "mlp"]),
    ("pair=nanno", ["pair must be", "'nanno'", "did you mean 'nano'"]),
    ("engine=vllm", ["engine must be", "'vllm'", "sglang", "torch"]),
    ("logger=tensorboard", ["logger must be", "'tensorboard'", "csv", "wandb"]),
    ("trainer=tpu", ["trainer must be", "'tpu'", "cpu"]),
    ("labeler=vibes", ["labeler must be", "'vibes'", "equivalence"]),
    ("benchmark=gsm9k", ["benchmark must be", "'gsm9k'", "gsm8k"]),
    ("+experiment=nope", ["experiment", "'nope'", "main_table"]),
    ("treshold=0.1", ["'treshold'", "did you mean 'threshold'"]),
    ("trainer.lrr=1", ["trainer", "'lrr'", "did you mean 'lr'"]),
    ("lr=1", ["'lr'; did you mean 'trainer.lr' or 'pair.training.lr'? (choices: "]),
    ("par=nano", ["'par'; did you mean 'pair'? (choices: "]),
    ("sweep=threshold", ["'sweep'; did you mean '+sweep'?"]),
    ("--threshold 0.1", ["key=value", "'--threshold'; did you mean 'threshold=0.1'?"]),
    ("--threshold=0.1", ["'--threshold=0.1'; did you mean 'threshold=0.1'?"]),
    ("--benchmark.limit 5 --force", ["did you mean 'benchmark.limit=5'?"]),
    ("--train-tasks nano_qa", ["did you mean 'benchmark.train_tasks=nano_qa'?"]),
    ("--tresh 0.1", ["did you mean 'threshold=0.1'?"]),
    ("--force", ["did you mean 'force=true'?"]),
    ("--sweep pareto", ["did you mean '+sweep=pareto'?"]),
    ("--frobnicate", ["command line must be key=value (--help", "'--frobnicate'"]),
    ("+point=r2r +point=r2r_90", ["command line must be key=value with +point=... once"]),
    ("threshold=0.1,0.3", ["threshold must be one value, or have -m", "'0.1,0.3'"]),
    ("stages=label,train", ["stages must be a list, stages=[label,train], or have -m"]),
    ("+extra=1", ["'extra'", "threshold"]),
    ("hydra/launcher=dask", ["hydra/launcher must be one that is installed here, got 'dask'"]),
    ("pair=nan", ["pair must be a file in conf/pair, got nan; did you mean 'nano'?"]),
    ("router=null", ["router must be a file in conf/router, got None (choices: "]),
    ("policy.every=16", ["'policy.every'; did you mean 'policy=check policy.every=...'?"]),
    ("policy/accept=exact", ["'policy=lossy policy/accept=...'"]),
    ("policy=speculative policy.accept.tau=1", ["mean 'policy=check policy.accept.tau=...'"]),
    ("router=entropy router.dropout=0", ["'router=mlp router.dropout=...'"]),
    ("benchmark.data_files.gsm8k=x", ["'benchmark=gsm8k benchmark.data_files.gsm8k=...'"]),
    ("benchmark.data_files.gsm9k=x", ["'gsm9k'; did you mean 'gsm8k'?"]),
    ("serve.port=abc", ["serve.port must be a whole number, got 'abc'"]),
    ("force=maybe", ["force must be true or false, got 'maybe'"]),
    ("threshold", ["key=value", "'threshold'"]),
    ("threshold=abc", ["threshold must be", "'abc'", "auto"]),
    ("threshold=-1", ["threshold must be", "-1"]),
    ("threshold=nan", ["threshold must be", "nan"]),
    ("threshold=true", ["threshold must be", "True"]),
    ("threshold=[0.1]", ["threshold must be", "[0.1]"]),
    ("seed=-1", ["seed must be", "-1"]),
    ("seed=abc", ["seed", "'abc'"]),
    ("seed=${nope}", ["nope"]),
    ("run=../evil", ["run must be", "'../evil'"]),
    ("run=..", ["run must be", "'..'"]),
    ("run=.hidden", ["run must be", "'.hidden'"]),
    ("run=", ["run must be", "''"]),
    ("outputs=", ["outputs must be", "''"]),
    ("outputs=/dev/null/outputs", ["outputs", "/dev/null"]),
    ("stages=[lable]", ["stages", "'lable'", "did you mean 'label'"]),
    ("stages=[]", ["stages must be", "[]", "evaluate"]),
    ("stages=lable", ["stages", "'lable'", "did you mean 'label'"]),
    ("stages=", ["stages must be", "''"]),
    ("systems=[medium]", ["systems", "'medium'", "routed"]),
    ("pair.dtype=int8", ["pair.dtype must be", "'int8'", "float32"]),
    ("pair.context_length=1", ["pair.context_length must be", "1"]),
    ("pair=local", ["pair.", ".path must be given"]),
    ("engine.max_batch=0", ["engine.max_batch must be", "0"]),
    ("benchmark.top_p=0", ["benchmark.top_p must be", "0"]),
    ("benchmark.temperature=-1", ["benchmark.temperature must be", "-1"]),
    ("labeler.prompts.limit=0", ["labeler.prompts.limit must be", "0"]),
    ("labeler.in_flight=0", ["labeler.in_flight must be", "0"]),
    ("labeler.validation_share=0.95", ["labeler.validation_share", "0.95"]),
    ("labeler.verifier=vibes", ["labeler.verifier must be", "'vibes'", "judge"]),
    ("report.runs=[outputs]", ["stages must be", "[report]"]),
    ("serve.port=-1", ["serve.port must be", "-1"]),
    ("serve.timeout_s=0", ["serve.timeout_s must be", "0"]),
]
BEFORE_THE_WORK = [
    (["threshold=1.5"], ["threshold must be", "1.5", "auto"]),
    (["benchmark.tasks=[nano_maths]"], ["benchmark.tasks", "'nano_maths'", "nano_math"]),
    (["benchmark.tasks=[]"], ["benchmark.tasks must be", "at least one"]),
    (["benchmark.limit=0"], ["benchmark.limit must be", "0"]),
    (["benchmark.repeats=0"], ["benchmark.repeats must be", "0"]),
    (["+benchmark.data_files.nano_maths=x"], ["benchmark.data_files", "nano_maths"]),
    (["router.dropout=abc"], ["router.dropout", "'abc'"]),
    (["router._target_=os.system"], ["router._target_ must be", "Router class", "'os.system'"]),
    (["router._target_=r2r.nowhere.Router"], ["router._target_ must be", "r2r.nowhere"]),
    (["router.hidden_dims=[32,-1]"], ["router.hidden_dims must be", "[32, -1]"]),
    (["router.dropout=1"], ["router.dropout must be", "1"]),
    (["router.top_k=0"], ["router.top_k must be", "0"]),
    (["router.inputs=[token,token]"], ["router.inputs must be", "['token', 'token']"]),
    (["router=schedule", "router.tokens=-1", "threshold=1"], ["router.tokens must be", "-1"]),
    (["policy=check", "policy/accept=learned", "policy.accept.hidden_dims=[0]"],
     ["policy.accept.hidden_dims must be", "[0]"]),
    (["policy=glimpse", "policy.ends="], ["policy.ends must be", "''"]),
    (["policy=spec_reason", "policy.ends="], ["policy.ends must be", "''"]),
    (["objective=[routed/acuracy]"], ["objective must be", "did you mean 'routed/accuracy'?"]),
    (["objective=[val/loss]", "router=entropy", "threshold=1"], ["objective must be", "val/loss"]),
    (["trainer.lr=0"], ["trainer.lr must be", "0"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs must be", "0"]),
    (["trainer.precision=8"], ["trainer.precision must be", "'8'", "32-true"]),
    (["trainer.min_recall=2"], ["trainer.min_recall must be", "2"]),
    (["trainer.lr=abc"], ["trainer.lr", "'abc'"]),
    (["trainer=gpu"], ["trainer.accelerator", "trainer=cpu"]),
    (["engine.device=cuda:9"], ["engine.device", "cuda:9", "engine.device=cpu"]),
    (["engine.device=toaster"], ["engine.device", "toaster"]),
    (["pair.route_token=nonsense"], ["pair.route_token", "'nonsense'"]),
    (["pair.think_end=nonsense"], ["pair.think_end", "'nonsense'"]),
    (["pair.context_length=100000000"], ["pair.context_length", "at most"]),
    (["pair.slm.path=/no/where"], ["pair.slm.path", "/no/where"]),
    (["router=trained", "router.path=/no/where"], ["router.path", "/no/where"]),
    (["stages=[evaluate]"], ["stages", "train first"]),
    (["stages=[train]"], ["stages", "label first"]),
    (["stages=[report]"], ["stages"]),
    (["stages=[report]", "report.runs=[/no/where]"], ["report.runs must be", "/no/where"]),
    (["stages=[label]", "labeler.path=/no/where"], ["labeler.path", "/no/where"]),
    (["stages=[label]", "labeler=judge"], ["labeler.judge"]),
    (["stages=[train,serve]", "router=entropy", "threshold=1", "serve.host=0.0.0.0"],
     ["serve.api_key_env must be"]),
    (["stages=[train,serve]", "router=entropy", "threshold=1", "serve.port=99999"],
     ["serve.port", "99999"]),
]  # fmt: skip


@pytest.mark.parametrize(("override", "told"), COMMAND_LINE, ids=[c[0] for c in COMMAND_LINE])
def test_the_command_line(tmp_path, override, told):
    line = refused(tmp_path / "outputs", *(override.split() or [""]))
    assert all(part in line for part in told), line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("overrides", "told"), BEFORE_THE_WORK, ids=[" ".join(c[0]) for c in BEFORE_THE_WORK]
)
def test_what_is_found_before_the_work(tmp_path, overrides, told):
    line = refused(tmp_path / "outputs", *overrides)
    assert all(part in line for part in told), line
    assert half_written(tmp_path / "outputs") == []


def test_answers_that_are_not_there_are_named_with_their_threshold(tmp_path):
    given = ("stages=[train,trace]", "router=random", "threshold=0.5")
    assert "evaluate (routed has no results yet at threshold=0.5)" in refused(tmp_path, *given)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """No network, and nothing in the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def memory(monkeypatch, gb: float) -> None:
    def sysconf(name):
        return {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": int(gb * 1e6)}[name]

    monkeypatch.setattr("r2r.stages.room.os.sysconf", sysconf)


@pytest.mark.parametrize(
    ("pair", "weights"),
    [("r1_1.5b_32b", "67 GB"), ("qwen3_0.6b_32b", "65 GB"), ("qwen3_0.6b_30b_a3b", "62 GB"),
     ("qwen3_4b_8b", "24 GB")],
)  # fmt: skip
def test_a_pair_that_does_not_fit_is_refused_before_any_download(
    tmp_path, monkeypatch, no_hub, pair, weights
):
    memory(monkeypatch, 20)
    line = refused(tmp_path / "outputs", f"pair={pair}", "benchmark=aime")
    assert f"engine.device must be one that holds pair={pair}, which takes {weights}" in line
    assert "for each text of 32,768 tokens; this machine has 20 GB. Use GPUs" in line
    line = refused(tmp_path / "outputs", f"pair={pair}", "engine.device=cuda:9", "trainer=gpu")
    assert "'cuda:9'" in line and weights in line and "docs/gpus.md" in line
    assert "; engine.device=cpu has 20 GB (for pair=" in line  # and is no way out
    assert half_written(tmp_path / "outputs") == []


def test_a_pair_of_the_hub_without_it(tmp_path, monkeypatch, no_hub):
    memory(monkeypatch, 1000)
    line = refused(tmp_path / "outputs", "pair=r1_1.5b_32b", "benchmark=aime")
    assert (
        "pair.slm.path must be a folder, or a hub id" in line and "no answer from the hub" in line
    )
    assert "takes 67 GB in bfloat16 and 9.5 GB more" in line
    assert half_written(tmp_path / "outputs") == []


def test_wandb_without_a_login(tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    line = refused(tmp_path / "outputs", "logger=wandb")
    assert "logger must be csv, or wandb with a login" in line and "WANDB_MODE=offline" in line
    assert half_written(tmp_path / "outputs") == []


DATA = {
    "a line cut off": (GOOD.encode() + b'{"question": \n', ["line 2", "not JSON"]),
    "empty": (b"", ["no problems"]),
    "blank lines": (b"\n\n", ["no problems"]),
    "a list": (b"[1, 2]\n", ["line 1", "JSON object", "list"]),
    "not UTF-8": (b'{"question": "\xff\xfe"}\n', ["line 1"]),
    "binary": (os.urandom(64).replace(b"\n", b"x") + b"\n", ["line 1"]),
    "nested too deeply": (b"[" * 100_000 + b"\n", ["line 1"]),
    "no answer": (b'{"family": "math", "question": "1+1?"}\n', ["line 1", "answer"]),
    "no question": (b'{"family": "math", "answer": "2"}\n', ["line 1", "question"]),
    "a number for a question": (
        b'{"family": "math", "question": 1, "answer": "2"}\n',
        ["question"],
    ),
    "null": (b'{"family": "math", "question": null, "answer": "2"}\n', ["question"]),
}


@pytest.mark.parametrize("kind", DATA)
def test_a_benchmarks_file(tmp_path, kind):
    content, told = DATA[kind]
    path = tmp_path / "problems.jsonl"
    path.write_bytes(content)
    line = refused(tmp_path / "outputs", f"benchmark.data_files.nano_math={path}")
    assert str(path) in line and all(part in line for part in told), line
    assert half_written(tmp_path / "outputs") == []


@pytest.mark.parametrize("kind", [k for k in DATA if k != "no answer"])
def test_a_file_of_queries(tmp_path, kind):
    path = tmp_path / "queries.jsonl"
    path.write_bytes(DATA[kind][0])
    query = [f"labeler.prompts.data_files={path}", "stages=[label]"]
    line = refused(tmp_path / "outputs", *query)
    assert "labeler.prompts" in line
    assert half_written(tmp_path / "outputs") == []


@pytest.mark.parametrize("kind", ["a folder", "missing", "a cut gzip file", "no gzip file"])
def test_what_is_no_readable_file(tmp_path, kind):
    path = tmp_path / "problems.jsonl.gz"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a cut gzip file":
        path.write_bytes(gzip.compress(GOOD.encode() * 99)[:-12])
    elif kind == "no gzip file":
        path.write_text(GOOD)
    line = refused(tmp_path / "outputs", f"benchmark.data_files.nano_math={path}")
    assert "nano_math" in line and str(path) in line
    assert half_written(tmp_path / "outputs") == []


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil(folder.parent / "owned")}, folder / "pytorch_model.bin")


def asks_for_its_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(folder.parent / 'owned')!r})\n")


def other_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["So\u0120"], vocab["Now\u0120"] = vocab["Now\u0120"], vocab["So\u0120"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


MODELS = {
    "weights cut": lambda f: cut(f / "model.safetensors"),
    "weights garbage": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 4096),
    "weights missing": lambda f: (f / "model.safetensors").unlink(),
    "weights of another size": lambda f: shutil.copy(NANO / "slm/model.safetensors", f),
    "weights in a pickle": only_pickled,
    "its own code": asks_for_its_own_code,
    "config cut": lambda f: cut(f / "config.json"),
    "config missing": lambda f: (f / "config.json").unlink(),
    "config of no model": lambda f: (f / "config.json").write_text('{"model_type": "toaster"}'),
    "config a list": lambda f: (f / "config.json").write_text("[]"),
    "tokenizer cut": lambda f: cut(f / "tokenizer.json"),
    "another tokenizer": other_tokenizer,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_models_folder(tmp_path, kind):
    folder = Path(shutil.copytree(NANO / "llm", tmp_path / "llm"))
    MODELS[kind](folder)
    paths = [f"pair.slm.path={NANO / 'slm'}", f"pair.llm.path={folder}"]
    line = refused(tmp_path / "outputs", "pair=local", *paths, "stages=[label]")
    assert ("pair.llm.path" in line and str(folder) in line) or "pair.slm and pair.llm" in line
    assert not (tmp_path / "owned").exists()
    assert half_written(tmp_path / "outputs") == []


@pytest.mark.parametrize("name", ["model.gguf", "model.bin"])
def test_a_models_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF" + os.urandom(100))
    line = refused(tmp_path / "outputs", f"pair.slm.path={tmp_path / name}")
    assert "pair.slm.path" in line and str(tmp_path / name) in line


ROUTERS = {
    "garbage": lambda path: path.write_bytes(os.urandom(200)),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle with code": lambda path: path.write_bytes(
        pickle.dumps({"state_dict": Evil(path.with_name("owned"))})
    ),
    "a torch file with code": lambda path: torch.save({"a": Evil(path.with_name("owned"))}, path),
    "a torch file of something else": lambda path: torch.save([1, 2, 3], path),
    "an empty folder": lambda path: path.mkdir(),
    "a folder with half a description": lambda path: (
        path.mkdir(), (path / "router.json").write_text('{"config": '),
        (path / "router.safetensors").write_bytes(b""),
    ),
    "a folder of another kind": lambda path: shutil.copytree(NANO / "slm", path),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_finished_router(tmp_path, kind):
    path = tmp_path / "router.pt"
    ROUTERS[kind](path)
    router = "trained" if path.is_dir() else "published"
    line = refused(
        tmp_path / "outputs", f"router={router}", f"router.path={path}", "stages=[evaluate]"
    )
    assert "router.path" in line and str(path) in line
    assert not (tmp_path / "owned").exists()
    assert half_written(tmp_path / "outputs") == []
