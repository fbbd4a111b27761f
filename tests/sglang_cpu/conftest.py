"""Real SGLang servers for the nano pair, one of each for the whole run, and what to ask of them."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from r2r.chat import encode_question
from r2r.config import ServerConfig
from r2r.engines.base import Sampling
from r2r.engines.sglang.client import Client, Patience
from r2r.engines.sglang.delay import Delay
from r2r.engines.sglang.engine import SGLangEngine
from r2r.engines.sglang.server import Server, command, free_port
from r2r.engines.torch.engine import TorchEngine
from r2r.pairs import ModelPair, Source
from r2r.policies.base import Prompt
from r2r.policies.r2r import R2R
from r2r.policies.routed import Routed
from r2r.routers.build import build_router
from r2r.routers.checkpoint import load_saved, save_router
from r2r.stages.compose import compose

sys.path.insert(0, str(Path(__file__).parents[1]))
ROOT = Path(__file__).parents[2]
NANO = ROOT / "src" / "r2r" / "assets" / "nano"
PYTHON = os.environ.get("R2R_SGLANG_PYTHON")
START_S = 600  # a busy machine; 25 to 60 on an idle one
MLP = {"_target_": "r2r.routers.mlp.MLPRouter", "inputs": ["hidden", "token", "logits"],
       "normalize_input": False, "top_k": 100, "hidden_dims": [32], "expansion": 2,
       "dropout": 0.1}  # fmt: skip


@dataclass
class Nano:
    """The pair, its models in this process, and a router of arbitrary but fixed weights."""

    pair: ModelPair
    tokenizer: object
    slm: object
    llm: object
    router: object
    folder: Path
    digest: str

    def prompts(self, count, thresholds=(None,), budget=110, **sampling):
        rows = (NANO / "data" / "test.jsonl").read_text().splitlines()[:count]
        return [
            Prompt(
                encode_question(self.tokenizer, json.loads(row)["question"], {}),
                Sampling(budget - index % 7, seed=index, **sampling),
                threshold=thresholds[index % len(thresholds)],
            )
            for index, row in enumerate(rows)
        ]

    def torch_engine(self, name, max_batch=48):
        model = getattr(self, name)
        unwritten = range(self.pair.tokens, model.config.vocab_size)
        return TorchEngine(
            model=model, eos_ids=self.pair.eos_ids, banned=[self.pair.route_id, *unwritten],
            max_batch=max_batch, max_prefill_tokens=2048,
            router=self.router if name == "slm" else None,
        )  # fmt: skip

    def sglang_engine(self, name, *servers, delay=Delay(0.0, 1), down=20.0, digest=None):  # noqa: B008
        digest = self.digest if name == "slm" and digest is None else digest
        return SGLangEngine(
            client=Client(
                servers, Patience(silence=120.0, down=down), route_id=self.pair.route_id
            ),
            eos_ids=frozenset(self.pair.eos_ids), route_id=self.pair.route_id, digest=digest,
            delay=delay, stream_interval=3, keeps=True,
        )  # fmt: skip

    def routed(self, slm, llm, threshold=0.5, concurrency=48, policy=R2R()):  # noqa: B008
        return Routed(
            policy=policy, slm=slm, llm=llm, threshold=threshold, tokenizer=self.tokenizer,
            context=self.pair.context_length, concurrency=concurrency,
            eos_ids=frozenset(self.pair.eos_ids),
        )  # fmt: skip

    def command(self, name, **routing):
        given = {
            "route_id": self.pair.route_id, "eos_ids": sorted(self.pair.eos_ids),
            "tokens": self.pair.tokens,
            "router": str(self.folder) if name == "slm" else None,
            "pair": "nano", "identity": self.pair.identity(),
        }  # fmt: skip
        return command(
            python=PYTHON, model=Source(str(NANO / name), True), settings=ServerConfig(),
            device="cpu", dtype="float32", max_prefill_tokens=256, routing=given | routing,
            extra={"enable_streaming_session": True},
        )  # fmt: skip


def same_labels(one, other):
    """Two labellings, each of one shard: what engines compute in another order is nearly equal."""
    counts = [json.loads((f / "manifest.json").read_text())["counts"] for f in (one, other)]
    assert counts[0] == counts[1]
    (shard,), (same,) = ([*folder.glob("shard-*")] for folder in (one, other))
    names = sorted(path.name for path in shard.glob("*.npy"))
    assert names == sorted(path.name for path in same.glob("*.npy")) and len(names) > 5
    for name in names:
        column, twin = np.load(shard / name), np.load(same / name)
        if column.dtype == np.float16:
            assert np.allclose(column.astype(float), twin.astype(float), rtol=2e-3, atol=1e-3)
        elif "indices" not in name:  # whose order among equals is not fixed
            assert (column == twin).all(), name


@pytest.fixture(scope="session")
def nano(tmp_path_factory):
    config, _ = compose([])
    pair = ModelPair(config.pair, tmp_path_factory.mktemp("pairs"))
    slm, llm = (AutoModelForCausalLM.from_pretrained(NANO / name).eval() for name in ("slm", "llm"))
    shape = {"hidden_size": 48, "vocab_size": 512}
    embeddings = slm.get_input_embeddings().weight
    router = build_router(MLP, **shape, token_embeddings=embeddings)
    folder = tmp_path_factory.mktemp("router")
    save_router(folder, router, config=MLP, pair="nano", identity=pair.identity(), **shape,
                threshold=0.5, metrics={})  # fmt: skip
    digest = load_saved(folder, token_embeddings=embeddings).digest
    tokenizer = AutoTokenizer.from_pretrained(NANO / "llm")
    return Nano(pair, tokenizer, slm, llm, router, folder, digest)


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Starts a server; all are ended with the session."""
    if PYTHON is None:
        pytest.skip("needs SGLang's own environment: make test-sglang")
    started = []

    def begin(key, line, env=()):
        port = free_port()
        log = tmp_path_factory.mktemp("logs") / f"{key}.log"
        server = Server(
            key=key, url=f"http://127.0.0.1:{port}", patience=START_S,
            command=["env", *env, *line, "--port", str(port)], log=log,
        )  # fmt: skip
        server.start()
        started.append(server)
        return server

    yield begin
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def servers(nano, launch):
    """(SLM with its router, LLM), both answering."""
    both = launch("slm", nano.command("slm")), launch("llm", nano.command("llm"))

    async def ready():
        await asyncio.gather(*(server.ready() for server in both))

    asyncio.run(ready())
    return both
