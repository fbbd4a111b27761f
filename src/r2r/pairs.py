"""ModelPair: what two models must share to route between them, checked once and up front."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from r2r.chat import encode_question
from r2r.config import ModelConfig, PairConfig
from r2r.errors import ConfigError, must_be
from r2r.records import MANIFEST, file_hash, fingerprint, folder_hash, read_json, write_json

if TYPE_CHECKING:
    from torch import nn
    from transformers import GenerationConfig, PretrainedConfig

PAIR_VERSION = 2  # what a pair's files are found to say
PROMPT_VERSION = 1  # a question as token ids
PROBES = (
    "Then 12+30=42.\nSo the answer is \\boxed{42}.",
    "def f(x):\n    return x ** 2  # caf\u00e9, \u6570\u5b66, \U0001f600",
    "<think>\n\n</think>\n",
)
# What changes a greedy text, of a generation_config.json; and each one's value that does not.
GREEDY = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": 0, "num_beams": 1,
    "guidance_scale": 1.0, "suppress_tokens": None, "begin_suppress_tokens": None,
    "bad_words_ids": None, "sequence_bias": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "exponential_decay_length_penalty": None, "stop_strings": None,
    "penalty_alpha": None, "dola_layers": None, "force_words_ids": None, "constraints": None,
    "token_healing": False, "watermarking_config": None, "max_time": None,
}  # fmt: skip
RESERVED_HINTS = ("reserved", "unused", "extra_id", "fim_", "jupyter", "repo", "file_sep", "pad")


@dataclass(frozen=True)
class Source:
    """Where a model's files are: a local folder or a hub id, and for GGUF the file in it."""

    where: str
    local: bool
    gguf: str | None = None
    revision: str | None = None

    def options(self) -> dict[str, Any]:
        """Arguments for transformers' ``from_pretrained``."""
        return {"revision": self.revision or "main"} | (
            {"gguf_file": self.gguf} if self.gguf else {}
        )


def locate(model: ModelConfig, key: str) -> Source:
    """Find a model's files. A path must exist; anything of the form name/name is a hub id."""
    if not model.path or model.path == MISSING:
        raise must_be(f"{key}.path", "a model folder, a .gguf file or a hub id", model.path)
    path = Path(model.path).expanduser()
    if path.is_dir():
        return Source(str(path), True)
    if path.is_file() and path.suffix == ".gguf":
        return Source(str(path.parent), True, gguf=path.name)
    looks_local = model.path.startswith(("/", ".", "~")) or model.path.count("/") != 1
    if looks_local or path.exists():
        raise must_be(f"{key}.path", "an existing model folder, .gguf file or hub id", model.path)
    return Source(model.path, False, revision=model.revision)


def identity(model: ModelConfig, key: str) -> str:
    """What decides a model's outputs: a hash of its files, or hub id and revision."""
    source = locate(model, key)
    if not source.local:
        return f"{source.where}@{source.revision or 'main'}"
    if source.gguf:
        return file_hash(Path(source.where) / source.gguf)[:16]
    return folder_hash(Path(source.where))[:16]


def _from_pretrained(loader: Any, model: ModelConfig, key: str, **options: Any) -> Any:
    """Call a transformers loader; what is wrong with the files becomes one line."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    source = locate(model, key)
    wrong = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
    try:
        return loader.from_pretrained(source.where, **source.options(), **options)
    except (*wrong, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        wanted = "a model that transformers can read (config.json, tokenizer, safetensors or GGUF)"
        raise ConfigError(f"{key}.path must be {wanted}, got {model.path!r}: {reason}") from error


def load_tokenizer(model: ModelConfig, key: str) -> Any:
    """The transformers tokenizer (Any: its annotations promise less than it gives)."""
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, model, key)


def load_config(model: ModelConfig, key: str) -> PretrainedConfig:
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, model, key)


def load_generation_config(model: ModelConfig, key: str) -> GenerationConfig:
    """What ``generate`` would go by: generation_config.json, else what config.json says of it.

    Raises ConfigError where the file is there and cannot be read.
    """
    from transformers import GenerationConfig
    from transformers.utils.hub import cached_file

    source = locate(model, key)
    there = cached_file(
        source.where,
        "generation_config.json",
        revision=source.revision or "main",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if there is None and source.gguf:
        return GenerationConfig.from_model_config(load_config(model, key))
    options = {} if there else {"config_file_name": "config.json", "_from_model_config": True}
    return _from_pretrained(GenerationConfig, model, key, **options)


def unapplied(generation: GenerationConfig) -> str:
    """The settings that would change a greedy text of ``generate`` and that no engine here knows,
    as ``name=value, ...``; empty where there are none."""
    found = {name: getattr(generation, name, None) for name in GREEDY}
    changing = {n: v for n, v in found.items() if v not in (None, [], {}, GREEDY[n])}
    return ", ".join(f"{name}={str(value)[:60]}" for name, value in changing.items())


def end_ids(model: ModelConfig, key: str, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a model's answers: its tokenizer's, its config's, and those of its
    generation_config.json, which alone decide for ``generate``.

    Raises ConfigError where there are none, or one is no token id.
    """
    shape = load_config(model, key).get_text_config()
    named = [tokenizer, shape, load_generation_config(model, key)]
    found: list[Any] = []
    for eos in (getattr(source, "eos_token_id", None) for source in named):
        found += eos if isinstance(eos, list | tuple) else [] if eos is None else [eos]
    if wrong := [eos for eos in found if type(eos) is not int]:
        raise must_be(f"{key}.path", "a model whose eos_token_id is an id or several", wrong[0])
    known = frozenset(eos for eos in found if 0 <= eos < shape.vocab_size)
    if not known:
        raise must_be(f"{key}.path", "a model with an end token (eos_token_id)", model.path)
    return known


def load_model(model: ModelConfig, key: str, *, dtype: str, device: str) -> nn.Module:
    """The causal LM in evaluation mode; weights from safetensors or GGUF, never from pickle.

    Raises ConfigError where files are missing, truncated, or lack some of the weights.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "output_loading_info": True}
    if not locate(model, key).gguf:
        options["use_safetensors"] = True
    loaded, info = _from_pretrained(AutoModelForCausalLM, model, key, **options)
    missing = sorted(info["missing_keys"])
    if missing:
        raise must_be(
            f"{key}.path", "a model with all its weights", f"{len(missing)} missing, {missing[0]}"
        )
    return loaded.eval().requires_grad_(False).to(device)


def load_skeleton(model: ModelConfig, key: str) -> nn.Module:
    """The causal LM without its weights: shapes only."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(load_config(model, key))


def count_params_b(model: nn.Module) -> float:
    """All parameters, in billions (tied weights once)."""
    return sum(p.numel() for p in model.parameters()) / 1e9


def shape_of(model: ModelConfig, key: str) -> dict[str, Any]:
    """What decides how a model attends, as plain data: its ``class``, the kinds of its ``layers``,
    its sliding ``window``, its ``ropes`` (type -> the longest text, in tokens, over which it is the
    same), and whether it is ``bidirectional``. Raises ConfigError where it is no causal LM."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    config = load_config(model, key)
    text = config.get_text_config()
    given = getattr(text, "rope_parameters", None) or {}
    longest = getattr(text, "max_position_embeddings", None)
    ropes = {}
    for rope in [given] if "rope_type" in given else given.values():
        if isinstance(rope, dict):
            lengths = [rope.get("original_max_position_embeddings"), longest]
            ropes[rope.get("rope_type", "default")] = min(n for n in lengths if n is not None)
    if config.model_type not in NAMES:
        raise must_be(f"{key}.path", "a causal language model", config.model_type)
    bidirectional = getattr(text, "use_bidirectional_attention", None) not in (None, False)
    return {
        "class": NAMES[config.model_type],
        "layers": sorted(set(getattr(text, "layer_types", None) or [])),
        "window": getattr(text, "sliding_window", None),
        "ropes": ropes,
        "bidirectional": bidirectional or getattr(text, "is_causal", True) is False,
    }


def token_count(tokenizer: Any) -> int:
    """From this id on no token is the tokenizer's; embeddings often have further rows."""
    return max(tokenizer.get_vocab().values()) + 1


def _same_tokenizer(slm: Any, llm: Any) -> None:
    wanted = "models of one tokenizer"
    a, b = slm.get_vocab(), llm.get_vocab()
    if a != b:
        token = min(set(a.items()) ^ set(b.items()), key=lambda item: item[1])[0]
        got = f"{token!r} is {a.get(token)} in the SLM and {b.get(token)} in the LLM"
        raise ConfigError(f"pair.slm and pair.llm must be {wanted}, got different ids: {got}")
    if slm.bos_token_id != llm.bos_token_id:
        got = f"bos_token_id {slm.bos_token_id} and {llm.bos_token_id}"
        raise ConfigError(f"pair.slm and pair.llm must be {wanted}, got {got}")
    for text in PROBES:
        if slm(text).input_ids != llm(text).input_ids:
            raise ConfigError(
                f"pair.slm and pair.llm must be {wanted}, got different ids for {text!r}"
            )


def _route_id(pair: PairConfig, tokenizer: Any, vocab_size: int, eos_ids: Collection[int]) -> int:
    """A token id that no text uses: an embedding row without a token, or a reserved token."""
    vocab = tokenizer.get_vocab()
    if pair.route_token is not None:
        index = vocab.get(pair.route_token, vocab_size)
        if index >= vocab_size or index in eos_ids:
            wanted = "a token of the shared vocabulary that ends no answer"
            raise must_be("pair.route_token", wanted, pair.route_token)
        return index
    unused = set(range(vocab_size)) - set(vocab.values()) - set(eos_ids)
    if unused:
        return min(unused)
    template = str(tokenizer.chat_template or "")
    taken = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    for token, index in sorted(tokenizer.get_added_vocab().items(), key=lambda item: -item[1]):
        free = token not in taken and token not in template and index < vocab_size
        free = free and index not in eos_ids
        if free and any(hint in token.lower() for hint in RESERVED_HINTS):
            return index
    raise must_be("pair.route_token", "a token that no text uses (no reserved id found)", None)


class ModelPair:
    """A checked pair: tokenizer, reserved route id, EOS ids, context length. Loads no weights.

    ``eos_ids``: the LLM's, which end every answer. ``tokens``: ids from there on are rows of larger
    embeddings that no token belongs to. ``shapes``: ``shape_of`` each model. ``notes``: a line for
    each thing a user should know of.
    ``known``: where ``remember`` keeps what was found, by fingerprint: a pair is checked once.
    Raises ConfigError where the models do not share a tokenizer, have no free reserved id, or a
    context shorter than asked for.
    """

    def __init__(self, config: PairConfig, known: Path):
        self.config = config
        self.models = {"slm": config.slm, "llm": config.llm, **config.middle}
        self.keys = {name: f"pair.{name}" for name in ("slm", "llm")}
        self.keys |= {name: f"pair.middle.{name}" for name in config.middle}
        self.identities = {name: identity(m, self.keys[name]) for name, m in self.models.items()}
        steps = [PAIR_VERSION, version("transformers"), version("tokenizers")]
        self.kept = known / fingerprint([self.identities, asdict(config), steps]) / MANIFEST
        self.found = read_json(self.kept) if self.kept.exists() else self._checked()
        self.route_id: int = self.found["route_id"]
        self.context_length: int = self.found["context_length"]
        self.eos_ids = frozenset[int](self.found["eos_ids"])
        self.tokens: int = self.found["tokens"]
        self.shapes: dict[str, dict[str, Any]] = self.found["shapes"]
        self.notes: list[str] = self.found["notes"]
        self.chat_template: str = self.found["chat_template"]

    def remember(self) -> None:
        if not self.kept.exists():
            write_json(self.kept, self.found)

    @cached_property
    def tokenizer(self) -> Any:
        """The shared one. What opens and closes the reasoning is text to it, special or not."""
        tokenizer, config = load_tokenizer(self.models["llm"], "pair.llm"), self.config
        _keep_in_texts(tokenizer, [t for t in (config.think_start, config.think_end) if t])
        return tokenizer

    def _checked(self) -> dict[str, Any]:
        """What a pair's files say of it, once they are found to fit."""
        config, tokenizer = self.config, self.tokenizer
        eos_ids = end_ids(self.models["llm"], "pair.llm", tokenizer)
        notes = []
        for name, model in self.models.items():
            key = self.keys[name]
            if name != "llm":
                own = load_tokenizer(model, key)
                _same_tokenizer(own, tokenizer)
                if (ends := end_ids(model, key, own)) != eos_ids:
                    theirs, its = _tokens(tokenizer, eos_ids), _tokens(tokenizer, ends)
                    notes.append(f"answers end with pair.llm's {theirs}, not with {key}'s {its}")
            if settings := unapplied(load_generation_config(model, key)):
                notes.append(f"not applied, of {key}'s generation_config.json: {settings}")
        shapes = [load_config(m, self.keys[n]).get_text_config() for n, m in self.models.items()]
        vocab_size = min(shape.vocab_size for shape in shapes)
        if len(tokenizer) > vocab_size:
            raise must_be("pair", f"models with {len(tokenizer)} embeddings", vocab_size)
        route_id = _route_id(config, tokenizer, vocab_size, eos_ids)
        lengths = [getattr(shape, "max_position_embeddings", None) for shape in shapes]
        longest = min((n for n in lengths if n is not None), default=config.context_length)
        if longest is None:
            raise must_be("pair.context_length", "a number (the models name none)", None)
        if config.context_length is not None and config.context_length > longest:
            raise must_be("pair.context_length", f"at most {longest} tokens", config.context_length)
        for key, token in (("think_start", config.think_start), ("think_end", config.think_end)):
            if token is not None and token not in tokenizer.get_vocab():
                raise must_be(f"pair.{key}", "a token of the pair's vocabulary, or null", token)
        return {
            "route_id": route_id,
            "context_length": config.context_length or longest,
            "eos_ids": sorted(eos_ids),
            "tokens": token_count(tokenizer),
            "shapes": {n: shape_of(m, self.keys[n]) for n, m in self.models.items()},
            "notes": notes,
            "chat_template": str(tokenizer.chat_template),
        }

    def encode(self, question: str) -> list[int]:
        return encode_question(self.tokenizer, question, self.config.chat_template)

    def think_end(self, prompt: Sequence[int]) -> str | None:
        """What closes the reasoning in the answer to ``prompt``; None where there is none: the
        models don't reason, or the prompt ends with a closed reasoning (enable_thinking=false)."""
        end = self.config.think_end
        for token in reversed(prompt):
            text = self.tokenizer.decode([token], skip_special_tokens=False)
            if text.strip():
                return None if token == self.token_id(end) else end
        return end

    def token_id(self, token: str | None) -> int | None:
        return None if token is None else self.tokenizer.get_vocab()[token]

    def identity(self) -> dict[str, str]:
        """What decides the pair's outputs, for fingerprints and to tie a router to its pair."""
        both = {name: self.identities[name] for name in ("slm", "llm")}
        return both | self.shared_identity()

    def shared_identity(self) -> dict[str, str]:
        """What decides the outputs of each of the pair's models, beside its files."""
        template = fingerprint([self.chat_template, dict(self.config.chat_template)])
        return {"chat": template, "dtype": self.config.dtype}


def _keep_in_texts(tokenizer: Any, tokens: Collection[str]) -> None:
    """Have ``decode(..., skip_special_tokens=True)`` skip all special tokens but these."""
    vocab = tokenizer.get_vocab()
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    skipped = special - {vocab.get(token) for token in tokens}
    if skipped == special:
        return
    decode = tokenizer.decode

    def kept(token_ids: Sequence[int], skip_special_tokens: bool = False, **options: Any) -> str:
        if skip_special_tokens:
            token_ids = [token for token in token_ids if token not in skipped]
        return decode(token_ids, skip_special_tokens=False, **options)

    tokenizer.decode = kept


def _tokens(tokenizer: Any, ids: Collection[int]) -> str:
    return " ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(ids))))
