"""Everything a stage may need, made when it is first asked for: pair, models, engines, routers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2r.config import Config, ModelConfig, ServerConfig
from r2r.errors import ConfigError, must_be
from r2r.pairs import (
    ModelPair,
    count_params_b,
    end_ids,
    identity,
    load_model,
    load_skeleton,
    locate,
    token_count,
)
from r2r.policies.build import build_policy
from r2r.records import MANIFEST
from r2r.stages import fingerprints
from r2r.stages.artifacts import Key, artifact
from r2r.stages.given import given_labels
from r2r.stages.parts import held_out
from r2r.stages.provenance import made_with
from r2r.stages.screen import say

if TYPE_CHECKING:
    import torch

    from r2r.engines.base import Engine
    from r2r.engines.sglang.fleet import Fleet
    from r2r.policies.learned import Learned
    from r2r.policies.routed import Policy
    from r2r.routers.base import Router
    from r2r.routers.checkpoint import Description, SavedRouter


class Workbench:
    """The parts of one experiment, built from its config and shared by its stages."""

    def __init__(self, config: Config, router_name: str):
        self.config, self.router_name = config, router_name
        self.artifacts = Path(config.outputs) / "artifacts"
        self.models: dict[str, Any] = {}
        self.evaluated: set[Path] = set()  # what this run made or found, to be forced and told once
        self.uses: list[str] = []  # artifacts, as kind/name
        self.on_use: Callable[[], None] = lambda: None
        self.forecast: dict[str, Any] | None = None  # of the routed system's speed
        self.session = f"{datetime.now(UTC).isoformat(timespec='seconds')}, {os.getpid()}"
        self.aimed: dict[str, Any] | None = None  # what ``target`` chose

    def used(self) -> dict[str, str]:
        """The artifacts this run made or read, by kind."""
        found = {"judge": str(self.judge_folder)} if self.learned else {}
        if not self.asks_router:
            return found
        found |= {"router": str(self.router_path)}
        return found | ({"labels": str(self.labels_folder)} if self.needs_labels else {})

    def use(self, *keys: object) -> None:
        """The run makes or reads these artifacts: known before it does, so that none is removed."""
        new = [str(key) for key in keys if str(key) not in self.uses]
        if new:
            self.uses += new
            self.on_use()

    def make(
        self, stage: str, key: Key, make: Callable[[Path], None], *, force: bool | None = None
    ) -> bool:
        """``artifacts.artifact`` of this run; True where it was reused."""
        self.use(key, *key.parents)
        forced = self.config.force if force is None else force
        return artifact(stage, key, forced, make, lambda: made_with(self, key.kind))

    @cached_property
    def pair(self) -> ModelPair:
        return ModelPair(self.config.pair, self.artifacts / "pair")

    @cached_property
    def fleet(self) -> Fleet | None:
        """The SGLang servers of this job; None where models run in this process."""
        if self.config.engine.sglang is None:
            return None
        from r2r.engines.sglang.fleet import Fleet

        logs = Path(self.config.outputs) / "logs"
        return Fleet(self.config.engine, dtype=self.config.pair.dtype, logs=logs)

    def ready(self) -> None:
        """Wait until the engines asked for can be used; outside of any event loop."""
        if self.fleet and self.fleet.waiting:
            say("engine", f"SGLang: {self.fleet}")
            self.fleet.ready()

    def close(self) -> None:
        """End the servers that this job has started."""
        if self.fleet:
            self.fleet.stop()

    @property
    def device(self) -> str:
        """Where this process keeps what it loads itself."""
        return "cpu" if self.fleet else self.config.engine.device

    def load(self, model: ModelConfig, key: str) -> Any:
        """A causal LM in this process, in the pair's dtype."""
        return load_model(model, key, dtype=self.config.pair.dtype, device=self.device)

    def model(self, name: str) -> Any:
        """A model of the pair, loaded once."""
        if name not in self.models:
            self.models[name] = self.load(self.pair.models[name], self.pair.keys[name])
        return self.models[name]

    def params_b(self, name: str) -> float:
        """Activated parameters in billions: declared, or counted from the model."""
        model, key = self.pair.models[name], self.pair.keys[name]
        if model.params_b is not None:
            return model.params_b
        return count_params_b(load_skeleton(model, key))

    def engine(
        self,
        name: str,
        router: SavedRouter | None = None,
        beside: Engine | None = None,
        idle: int = 0,
    ) -> Engine:
        """An engine over a model of the pair, which never writes the route token, nor an id that
        is none of the tokenizer's.

        ``beside``: the engine whose handoffs it takes; in process they share their steps. ``idle``:
        sessions for which there is room beside ``max_batch`` requests, kept by who asks.
        """
        eos_ids, route_id, tokens = self.pair.eos_ids, self.pair.route_id, self.pair.tokens
        if self.fleet is None:
            scorer = router.router if router else None
            model, key = self.model(name), self.pair.keys[name]
            return self._in_process(model, key, eos_ids, tokens, route_id, scorer, beside, idle)
        routing = None
        if router:
            path = self.router_path
            routing = {
                "router": str(path.resolve() if path.exists() else path),  # else: on the hub
                "pair": self.config.pair.name,
                "identity": self.pair.identity(),
            }
        from r2r.engines.sglang.engine import SGLangEngine

        return self.fleet.engine(
            name if name in ("slm", "llm") else "middle",
            locate(self.pair.models[name], self.pair.keys[name]),
            eos_ids=eos_ids,
            tokens=tokens,
            route_id=route_id,
            routing=routing,
            digest=router.digest if router else None,
            beside=beside if isinstance(beside, SGLangEngine) else None,
        )

    def judge_engine(self, model: ModelConfig, key: str, tokenizer: Any, *, idle: int) -> Engine:
        """An engine over a model outside the pair; one of the pair's is not loaded again.

        ``idle``: as of ``engine``."""
        settings = self.config.engine.sglang
        same = identity(model, key)
        for name in ("slm", "llm"):
            if self.pair.identities[name] != same:
                continue
            if settings is None or _alike(settings.judge, getattr(settings, name)):
                return self.engine(name, idle=idle)
        eos_ids, tokens = end_ids(model, key, tokenizer), token_count(tokenizer)
        if self.fleet is None:
            loaded = self.load(model, key)
            return self._in_process(loaded, key, eos_ids, tokens, None, None, None, idle)
        where = locate(model, key)
        return self.fleet.engine("judge", where, eos_ids=eos_ids, tokens=tokens, route_id=None)

    def _in_process(
        self,
        model: Any,
        key: str,
        eos_ids: Collection[int],
        tokens: int,
        route_id: int | None,
        router: Router | None,
        beside: Engine | None,
        idle: int = 0,
    ) -> Engine:
        from r2r.engines.torch.engine import TorchEngine
        from r2r.engines.torch.runner import NotExact

        banned = {*range(tokens, model.config.get_text_config().vocab_size)}
        if route_id is not None:
            banned.add(route_id)

        try:
            return TorchEngine(
                model=model,
                eos_ids=eos_ids,
                banned=banned,
                max_batch=self.config.engine.max_batch + idle,
                max_prefill_tokens=self.config.engine.max_prefill_tokens,
                router=router,
                beside=beside if isinstance(beside, TorchEngine) else None,
                patience=self.config.engine.patience,
                compile=self.config.engine.compile,
            )
        except NotExact as error:
            wanted = "a model that engine.name=torch runs exactly (docs/models.md)"
            raise ConfigError(f"{key} must be {wanted}, got {error}") from error

    @cached_property
    def policy(self) -> Policy:
        """How the two models share an answer."""
        return build_policy(self.config.policy)

    @property
    def learned(self) -> Learned | None:
        """The policy's test of the SLM's tokens, where it is to be trained."""
        from r2r.policies.learned import Learned

        return self.policy.accept if isinstance(self.policy.accept, Learned) else None

    # What is made of what.

    @cached_property
    def queries(self) -> list[tuple[str, str]]:
        """What labelling asks: (id, question)."""
        prompts = self.config.labeler.prompts
        if prompts.data_files or prompts.dataset:
            from r2r.labeling.prompts import read_queries

            return read_queries(prompts)
        from r2r.evaluation.harness import prompts as benchmark_prompts

        asked = benchmark_prompts(self.config.benchmark, "train")
        return asked[: prompts.limit] if prompts.limit else asked

    @cached_property
    def held_out(self) -> dict[str, list[str]]:
        """Ids of the problems that a target is chosen on and checked on."""
        return held_out(self.config, self.pair, self.queries)

    def route_as(self, threshold: float | str, policy: dict[str, Any]) -> None:
        """Route with another threshold, and the policy's options, from here on."""
        self.config.threshold, self.config.policy = threshold, policy
        self.__dict__.pop("policy", None)

    @cached_property
    def labels_folder(self) -> Path:
        if self.config.labeler.labels:
            return given_labels(Path(self.config.labeler.labels).expanduser(), self.pair)
        return fingerprints.labels(self).folder

    @property
    def oracle(self) -> bool:
        """Whether the labelling rule itself routes, in place of a router."""
        return self.config.router == {"_target_": "r2r.labeling.oracle.Oracle"}

    @property
    def asks_router(self) -> bool:
        """Whether the routed system asks a router."""
        return self.policy.routes and not self.oracle

    @cached_property
    def learns(self) -> bool:
        """Whether this run's router is to be trained (heuristics and finished ones are not)."""
        return self.asks_router and not self.finished_router and self.router_class.learns

    @cached_property
    def router_class(self) -> type[Router]:
        from r2r.routers.build import checked_router

        return checked_router(self.config.router)[0]

    @property
    def needs_labels(self) -> bool:
        calibrated = self.config.threshold == "auto" and not self.finished_router
        return self.learns or (calibrated and self.asks_router)

    @cached_property
    def router_folder(self) -> Path:
        return fingerprints.router(self).folder

    # Routers.

    def slm_shape(self) -> dict[str, Any]:
        """What a router must know of the SLM."""
        embeddings: torch.Tensor = self.model("slm").get_input_embeddings().weight
        return {
            "hidden_size": self.model("slm").get_output_embeddings().weight.shape[1],
            "vocab_size": embeddings.shape[0],
            "token_embeddings": embeddings,
        }

    def new_router(self, config: Mapping[str, Any]) -> Router:
        from r2r.routers.build import build_router

        return build_router(config, **self.slm_shape(), seed=self.config.seed)

    @cached_property
    def described_router(self) -> Description:
        """What is known of the run's trained router; the one of the train stage's artifact is not
        built for that, and no model is loaded."""
        from r2r.routers.checkpoint import describe

        if self.finished_router:
            return self.saved_router
        self.use(f"router/{self.router_folder.name}")
        return describe(self._trained(), **self._trained_for())

    @cached_property
    def saved_router(self) -> SavedRouter:
        """The run's trained router: from the train stage's artifact, or from router.path (a folder
        of ours, or a published file)."""
        from r2r.routers.checkpoint import load_saved
        from r2r.routers.published import load_published

        path = self.finished_router or self._trained()
        embeddings = self.slm_shape()["token_embeddings"]
        if path.is_dir():
            saved = load_saved(path, token_embeddings=embeddings, **self._trained_for())
        else:
            saved = load_published(path, embeddings)
        window = saved.router.window
        if window > 1 and self.config.engine.sglang is not None:
            wanted = "one position, or engine=torch, which keeps the signals of past ones"
            raise must_be("router.path", f"a router that reads {wanted}", f"{window} positions")
        if window > 1 and self.policy.cuts:
            wanted = "one that takes nothing back, with a router that reads several positions"
            raise must_be("policy", wanted, self.config.policy["name"])
        saved.router.to(self.device)
        return saved

    @cached_property
    def judge_folder(self) -> Path:
        return fingerprints.judge(self).folder

    @cached_property
    def described_judge(self) -> Description:
        """What is known of the policy's learned test."""
        from r2r.routers.checkpoint import describe

        if not (self.judge_folder / MANIFEST).exists():
            wanted = "a list with train first (no network of policy/accept=learned yet)"
            raise must_be("stages", wanted, self.config.stages)
        self.use(f"judge/{self.judge_folder.name}")
        return describe(self.judge_folder, **self._trained_for())

    def _trained(self) -> Path:
        if not (self.router_folder / MANIFEST).exists():
            raise must_be(
                "stages", "a list with train first (no such router yet)", self.config.stages
            )
        return self.router_folder

    def _trained_for(self) -> dict[str, Any]:
        return {"pair": self.config.pair.name, "identity": self.pair.identity()}

    @property
    def router_path(self) -> Path:
        """Where the run's router is, or will be."""
        return self.finished_router or self.router_folder

    @property
    def finished_router(self) -> Path | None:
        path = self.config.router.get("path")
        return None if path is None else Path(str(path)).expanduser()

    @property
    def threshold(self) -> float:
        """The run's threshold; auto: the one saved with the router."""
        saved = self.described_router
        value = saved.threshold if self.config.threshold == "auto" else self.config.threshold
        if value is None:
            raise must_be("threshold", "a number (this router was never calibrated)", "auto")
        self.check_threshold(saved.max_score)
        return float(value)

    def check_threshold(self, highest: float) -> None:
        """Raises ConfigError for a threshold above every score, which is ``highest`` at most."""
        value, held = self.config.threshold, self.config.hold_share
        if value != "auto" and value > highest:
            raise must_be("threshold", f"a number from 0 to {highest:g}, or auto", value)
        if held is not None and highest != 1:
            raise must_be("hold_share", "null where scores are no probabilities", held)


def _alike(judge: ServerConfig, other: ServerConfig) -> bool:
    """Whether a judge computes as another server does, and has none of its own."""
    return judge.url is None and (judge.dtype, judge.args) == (other.dtype, other.args)
