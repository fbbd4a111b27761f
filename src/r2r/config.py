"""The schema of the whole configuration: every key, its type and its unit. Values live in conf/."""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING


@dataclass
class ModelConfig:
    """One causal LM: a folder, a hub id or a .gguf file."""

    path: str = MISSING
    revision: str | None = None
    params_b: float | None = None  # activated parameters in billions; null: counted from the model
    weights_b: float | None = None  # all of them, where not all are activated (MoE)
    kv_kb: float | None = None  # KV cache a token, in kilobytes; with params_b: to be refused early


@dataclass
class RouterSize:
    """The default router widths for a pair."""

    hidden_dims: list[int] = field(default_factory=list)  # empty: chosen (training.sizes)
    expansion: int = 4


@dataclass
class TrainingDefaults:
    """The default router training for a pair; null: chosen (training.sizes)."""

    lr: float | None = None
    batch_size: int | None = None
    max_epochs: int | None = None


@dataclass
class PairConfig:
    name: str = MISSING
    slm: ModelConfig = field(default_factory=ModelConfig)
    llm: ModelConfig = field(default_factory=ModelConfig)
    middle: dict[str, ModelConfig] = field(default_factory=dict)
    dtype: str = MISSING
    chat_template: dict[str, Any] = field(default_factory=dict)  # options of apply_chat_template
    think_start: str | None = None
    think_end: str | None = None
    route_token: str | None = None  # null: found among the reserved ids
    one_turn: bool = False  # trained on single questions: the chat page asks each by itself
    context_length: int | None = None  # tokens; null: what both models allow
    max_new_tokens: int = MISSING
    router: RouterSize = field(default_factory=RouterSize)
    training: TrainingDefaults = field(default_factory=TrainingDefaults)


@dataclass
class JudgeConfig:
    """An LLM as judge: an OpenAI-compatible endpoint, or (labelling only) a local model."""

    url: str | None = None  # e.g. http://127.0.0.1:8000/v1
    model: str | None = None
    api_key_env: str | None = None  # name of the environment variable that holds the key
    path: str | None = None  # folder or hub id of a local judge
    concurrency: int = 16
    timeout_s: float = 120.0
    retries: int = 3


@dataclass
class BenchmarkConfig:
    name: str = MISSING
    tasks: list[str] = field(default_factory=list)
    train_tasks: list[str] = field(default_factory=list)  # what is labelled; empty: tasks
    data_files: dict[str, str | None] = field(default_factory=dict)  # <task>[_train] -> a file
    limit: int | None = None  # problems per task
    max_new_tokens: int = MISSING
    temperature: float = 0.0
    top_p: float = 1.0
    repeats: int = 1
    judge: JudgeConfig = field(default_factory=JudgeConfig)  # of tasks that a judge grades


@dataclass
class ServerConfig:
    """One SGLang server; null: SGLang's own default."""

    url: Any = None  # of a running one, for engine=sglang_remote; or a list, of several alike
    tp_size: int = 1
    base_gpu_id: int = 0
    mem_fraction_static: float | None = None  # share of each GPU's memory: weights and KV cache
    dtype: str | None = None  # null: the pair's
    attention_backend: str | None = None
    context_length: int | None = None  # tokens
    max_running_requests: int | None = None
    args: dict[str, Any] = field(default_factory=dict)  # further server arguments, by name


@dataclass
class SGLangConfig:
    python: str | None = MISSING  # of an environment with sglang; null: this one
    start_s: float = MISSING  # until a started server must answer
    silence_s: float = MISSING  # without a word an attempt has failed
    down_s: float = MISSING  # a failing server is asked again for as long
    stream_interval: int = MISSING  # tokens written before they are sent on
    delay_ms: float | None = MISSING  # handoffs wait for company; 0: never; null: modelled
    delay_size: int | None = MISSING  # how many are enough; null: modelled
    slm: ServerConfig = field(default_factory=ServerConfig)
    llm: ServerConfig = field(default_factory=ServerConfig)
    middle: ServerConfig = field(default_factory=ServerConfig)
    judge: ServerConfig = field(default_factory=ServerConfig)


@dataclass
class EngineConfig:
    name: str = MISSING
    device: str = MISSING
    max_batch: int = MISSING  # requests running at once in each model
    max_prefill_tokens: int = MISSING  # tokens of one forward
    compile: bool = False  # torch: the models by torch.compile
    patience: float | None = None  # torch: SLM steps that handoffs may lose by waiting for company
    sglang: SGLangConfig | None = None


@dataclass
class PromptsConfig:
    """Where labelling takes its queries from; all null: the benchmark's train split."""

    data_files: str | None = None  # JSONL
    dataset: str | None = None  # hub id
    split: str = "train"
    question_field: str = "question"
    limit: int | None = None


@dataclass
class RayConfig:
    """The workers of executor=ray; none of it shows in the labels."""

    address: str | None = None  # of a running cluster (auto: this machine's); null: a local one
    workers: int | None = None  # null: as many as there is room for
    cpus: float = 1  # of each worker
    gpus: float = 0  # of each worker; it sees no others
    retries: int = 3  # of a query whose worker is lost


@dataclass
class PathsConfig:
    """Whose answers are labelled: the LLM's, or of this share of the queries routed ones."""

    routed: float = 0.0
    router: str | None = None  # a router's folder; null: the run's own with paths.routed=0
    threshold: Any = "auto"  # a number; auto: the one saved with the router


@dataclass
class LabelerConfig:
    verifier: str = MISSING  # equivalence | judge | likelihood | outcome
    executor: str = MISSING  # serial | ray
    ray: RayConfig = field(default_factory=RayConfig)
    path: str | None = None  # a published training set (folder or hub id), in place of labelling
    labels: str | None = None  # a folder of labels that this project made, in place of labelling
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    max_new_tokens: int = MISSING
    max_sentence_tokens: int = MISSING
    in_flight: int | None = None  # queries under way at once; null: engine.max_batch
    shard_queries: int = MISSING  # queries whose labels lie in one folder
    validation_share: float = MISSING
    test_share: float = MISSING
    synonyms: dict[str, str] = field(default_factory=dict)  # equivalence: word -> what it means
    ignored: list[str] = field(default_factory=list)  # equivalence: words that carry no meaning
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    # likelihood, outcome: of the SLM's token's probability, relative to that of the LLM's own
    bound: float | None = None
    per_query: int | None = None  # outcome: mismatches that are followed to the answer's end
    samples: int | None = None  # outcome: ends that are drawn to confirm a divergent token
    seed: int | None = None  # outcome: of these, and of the choice


@dataclass
class TrainerConfig:
    positive: str = MISSING  # divergent | different: the tokens a router is to find
    lr: float | None = MISSING
    betas: list[float] = field(default_factory=list)
    weight_decay: float = MISSING
    batch_size: int | None = MISSING
    max_epochs: int | None = MISSING
    patience: int = MISSING
    min_recall: float = MISSING  # threshold=auto: the least validation recall
    target_share: float | None = None  # threshold=auto: this share of tokens instead of a recall
    precision: str = MISSING
    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    num_workers: int = MISSING


@dataclass
class QueryLevelConfig:
    """The query-level baselines (systems query_*)."""

    threshold: Any = MISSING  # a number, or auto: average params as the routed system's
    encoder: str | None = None  # a text encoder's folder or hub id; null: TF-IDF of the words


@dataclass
class PriceConfig:
    """What a model's tokens cost, in any currency; null: no billed cost is told."""

    input: float | None = None  # per million tokens that it reads
    output: float | None = None  # per million tokens that it writes


@dataclass
class PricesConfig:
    slm: PriceConfig = field(default_factory=PriceConfig)
    llm: PriceConfig = field(default_factory=PriceConfig)


@dataclass
class LoggerConfig:
    name: str = MISSING  # csv | wandb
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class ServeConfig:
    host: str = MISSING
    port: int = MISSING  # 0: any free one
    api_key_env: str | None = None  # name of the environment variable that holds the key
    max_request_bytes: int = MISSING
    max_prompt_tokens: int | None = None  # null: what the context allows
    running: int = MISSING  # answers written at once
    queue: int = MISSING  # answers that may wait
    timeout_s: float = MISSING  # a request's, waiting included
    grace_s: float = MISSING  # what is under way at shutdown may take this long to finish


@dataclass
class ReportConfig:
    """What stages=[report] puts on one page."""

    # run folders, globs of them, or W&B's CSV exports; none: what this config's systems scored
    runs: list[str] = field(default_factory=list)


@dataclass
class TraceConfig:
    """Which answer stages=[trace] prints."""

    system: str = MISSING
    problem: Any = MISSING  # its id, or its place in the benchmark


@dataclass
class GpuConfig:
    """A GPU of stages=[plan]; what it can do at most, and how much of that is reached."""

    name: str = MISSING
    tflops: float = MISSING  # dense, in the pair's precision
    tb_per_s: float = MISSING  # of its memory
    memory_gb: float = MISSING
    price_per_hour: float = MISSING  # in any currency
    efficiency: float = MISSING  # share of tflops and tb_per_s that is reached
    overhead_ms: float = MISSING  # of each forward
    handoff_ms: float = MISSING  # of each request to the LLM for one token
    bytes_per_param: float = MISSING


@dataclass
class MeasuredConfig:
    """Measured costs of stages=[plan], in GPU-seconds; null: from the roofline."""

    file: str | None = None  # results.json of a run, or a benchmark's JSON, measured on one GPU
    label: float | None = None  # per label
    routed: float | None = None  # per token
    llm: float | None = None  # per token


@dataclass
class PlanConfig:
    """What stages=[plan] estimates GPUs, hours and money for (docs/capacity.md)."""

    queries: int = MISSING  # to label
    gpus: int = MISSING  # to label them on
    requests_per_s: float = MISSING  # to serve
    prompt_tokens: int = MISSING  # of a query or request
    answer_tokens: int = MISSING
    batch: int = MISSING  # answers that a replica writes at once
    llm_share: float = MISSING  # of the tokens: the run's calibration.json tells
    mismatch: float = MISSING  # share of tokens where the SLM's differs from the LLM's
    kept: float = MISSING  # share of written tokens in answers that end in time, and are labelled
    sentence_tokens: int = MISSING  # that the LLM writes at a mismatch
    judge_b: float = MISSING  # parameters of the judge, in billions; 0: labeler=equivalence
    judge_tokens: int = MISSING  # that it reads to compare two sentences once
    slm_kv_kb: float = MISSING  # KV cache per token; 0: left out
    llm_kv_kb: float = MISSING
    gpu: GpuConfig = field(default_factory=GpuConfig)
    measured: MeasuredConfig = field(default_factory=MeasuredConfig)


@dataclass
class ArtifactsConfig:
    """What stages=[artifacts] does beside listing what outputs/artifacts holds."""

    remove: str | None = None  # unused: what no run's folder names


@dataclass
class Config:
    threshold: Any = MISSING  # a number, or auto
    target: str | None = None  # share:S, quality:Q or speed
    hold_share: float | None = None  # LLM forwards a token, held by moving the threshold
    tried: dict[str, list[Any]] = field(default_factory=dict)  # what a target tries
    stages: list[str] = field(default_factory=list)
    systems: list[str] = field(
        default_factory=list
    )  # what evaluate scores: slm, llm, middle names, routed, query_*
    objective: list[str] = field(default_factory=list)  # figures of the run that a sweep optimises
    seed: int = MISSING
    force: bool = False
    run: str = MISSING
    outputs: str = MISSING
    pair: PairConfig = field(default_factory=PairConfig)
    router: dict[str, Any] = field(default_factory=dict)  # checked against the class it names
    policy: dict[str, Any] = field(default_factory=dict)  # how two models share an answer; likewise
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    labeler: LabelerConfig = field(default_factory=LabelerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    query_level: QueryLevelConfig = field(default_factory=QueryLevelConfig)
    prices: PricesConfig = field(default_factory=PricesConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    trace: TraceConfig = field(default_factory=TraceConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)


def keys_of(of: Any, prefix: str = "") -> dict[str, Any]:
    """Every key below a dataclass of the schema, dotted, with its type."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(of).items():
        kinds = [k for k in get_args(kind) if is_dataclass(k)]  # of SGLangConfig | None
        inner = kind if is_dataclass(kind) else kinds[0] if len(kinds) == 1 else None
        if get_origin(kind) is dict:
            inner = None
        found[f"{prefix}{name}"] = kind
        found |= keys_of(inner, f"{prefix}{name}.") if inner else {}
    return found
