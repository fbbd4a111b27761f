"""Router files (.pt) of the published R2R code: read with its weights only, and written.

A file is a torch.save dict: ``model_type`` (class name), ``init_args`` (the constructor arguments
that were given), ``common_args`` (threshold, input_type), ``model_specific_args``, ``state_dict``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from r2r.config import ModelConfig
from r2r.errors import ConfigError, must_be
from r2r.records import file_hash, whole_file
from r2r.routers.build import build_router
from r2r.routers.checkpoint import SavedRouter
from r2r.routers.mlp import MLPRouter

MLP = "r2r.routers.mlp.MLPRouter"
LM_HEAD = "r2r.routers.published_only.LMHeadRouter"
WINDOW = "r2r.routers.published_only.WindowRouter"
WINDOW_SIZE = 3  # of files that do not say theirs


@dataclass(frozen=True)
class _Class:
    """What a published class reads, its names of our modules where they differ, and our class."""

    inputs: list[str]
    names: dict[str, str] = field(default_factory=dict)  # ours -> published
    target: str = MLP


CLASSES = {
    "HiddenStatesTokenLMHeadLogitsClassifier": _Class(["hidden", "token", "logits"]),
    "HiddenStatesTokenLMHeadClassifier": _Class(["hidden", "token"]),
    "HiddenStatesLogitsClassifier": _Class(["hidden", "logits"]),
    "HiddenStatesClassifier": _Class(
        ["hidden"],
        {
            "combined_projection": "hidden_states_projection",
            "layer_norm_hidden_states": "layer_norm",
        },
    ),
    "LogitsClassifier": _Class(["logits"], {"combined_projection": "logits_projection"}),
    "HiddenStatesClassifierWithLMHead": _Class(["hidden"], target=LM_HEAD),
    "MultiLogitsClassifier": _Class(["logits"], {"projection": "logits_projection"}, WINDOW),
    "MultiHiddenStatesClassifier": _Class(
        ["hidden"], {"projection": "hidden_states_projection"}, WINDOW
    ),
}
# Published by name, but their code cannot be run: it has no forward, or refuses to be built.
WITHOUT_FORWARD = {
    "HiddenStatesTokenClassifierWithLMHead",
    "MultiClassLogitsClassifier",
    "MultiClassHiddenStatesClassifier",
    "MultiClassHiddenStatesClassifierWithLMHead",
}
INPUT_TYPES = {"hidden": "hidden_states", "token": "token", "logits": "logits"}
EMBEDDINGS = "token_embeddings.weight"  # only in files saved whole ("_all.pt")
FORMAT = "a router file of the published format"


def load_published(path: str | Path, token_embeddings: torch.Tensor | None = None) -> SavedRouter:
    """The router of a published .pt file, in eval mode on the CPU, with the file's threshold.

    ``path``: a file here, or else owner/name/file.pt on the hub.
    ``token_embeddings`` [vocab, hidden]: those of the SLM, for files without their own; None: of
    the SLM that the file names, loaded for that.
    Nothing in the file is run. Raises ConfigError where there is no such file, it holds more
    than weights, its class is unknown, or the SLM's width or vocabulary is another.
    """
    file = _local(str(path))
    content = _read(file)
    try:
        name, args, weights = content["model_type"], content["init_args"], content["state_dict"]
        threshold = content["common_args"]["threshold"]
        stored = weights.pop(EMBEDDINGS, None)
        stored_rows = None if stored is None else stored.shape[0]
        if name in WITHOUT_FORWARD:
            raise must_be("router.path", "a router of a class that has a forward", name, CLASSES)
        if name not in CLASSES:
            raise must_be("router.path", "a router of a known class", name, CLASSES)
        if args.get("use_position_embedding"):
            raise must_be("router.path", "a router without position embeddings", str(path))
        weights = _renamed(weights, {theirs: ours for ours, theirs in CLASSES[name].names.items()})
        config, hidden_size = _config(CLASSES[name], args, weights)
        top_k = config.get("top_k") or (config["width"] if config.get("reads") == "logits" else 1)
    except (KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise must_be("router.path", FORMAT, str(path)) from error
    if threshold is not None and not isinstance(threshold, float):
        raise must_be("router.path", f"{FORMAT}, its threshold a number or None", threshold)
    if token_embeddings is not None:
        vocab, width = token_embeddings.shape
        if hidden_size not in (0, width):
            raise must_be("router.path", f"a router for an SLM of width {width}", hidden_size)
        if stored_rows not in (None, vocab) or top_k > vocab:
            got = stored_rows or top_k
            raise must_be("router.path", f"a router for an SLM of {vocab} tokens", got)
    elif "token" in CLASSES[name].inputs and stored is None:
        token_embeddings = _embeddings_of(args.get("pretrained_model_name"))
    router = build_router(
        config,
        hidden_size=hidden_size,
        vocab_size=top_k,
        token_embeddings=token_embeddings if stored is None else stored,
    )
    try:
        router.load_state_dict(weights)
    except RuntimeError as error:
        raise must_be("router.path", f"{FORMAT}, its weights those of {name}", str(path)) from error
    return SavedRouter(
        router=router, threshold=threshold, config=config, metrics={}, digest=file_hash(file)
    )


def export_published(
    router: MLPRouter, path: Path, *, threshold: float | None, pretrained_model_name: str
) -> None:
    """Write an MLP router as a published .pt file.

    ``pretrained_model_name``: the SLM, from which its readers take the token embeddings.
    Raises ConfigError where no published class has the router's inputs, or computes what it does.
    """
    if type(router) is not MLPRouter:
        raise must_be(
            "router", "an mlp router (no other has a published class)", type(router).__name__
        )
    classes = {name: kind for name, kind in CLASSES.items() if kind.target == MLP}
    named = [name for name, kind in classes.items() if kind.inputs == router.inputs]
    if not named:
        published = ["+".join(kind.inputs) for kind in classes.values()]
        raise must_be(
            "router.inputs", "those of a published class", "+".join(router.inputs), published
        )
    args: dict[str, Any] = {
        "hidden_dims": router.hidden_dims,
        "expansion_factor": router.expansion,
        "dropout_rate": router.dropout,
        "normalize_input": router.normalize_input,
    }
    if router.inputs != ["logits"]:
        args["hidden_states_size"] = router.hidden_size
    if "logits" in router.inputs:
        args["logits_size"] = router.top_k
    if "token" in router.inputs:
        args |= {"pretrained_model_name": pretrained_model_name, "freeze_lm_head": True}
    content = {
        "model_type": named[0],
        "init_args": args,
        "common_args": {
            "threshold": threshold,
            "input_type": [INPUT_TYPES[name] for name in router.inputs],
        },
        "model_specific_args": {},
        "state_dict": _renamed(router.state_dict(), CLASSES[named[0]].names),
    }
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def _local(path: str) -> Path:
    """The file at ``path``; only where nothing is there, owner/name/file.pt from the hub."""
    here = Path(path).expanduser()
    if here.is_file():
        return here
    wanted = "a router folder, a .pt file, or owner/name/file.pt on the hub"
    parts = path.split("/")
    hub = len(parts) > 2 and parts[0] not in ("", ".", "..", "~") and path.endswith(".pt")
    if here.exists() or not hub:
        raise must_be("router.path", wanted, path)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"router.path must be {wanted}, got {path!r}: {reason}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        wanted = "a whole router file that holds weights and plain values only"
        raise must_be("router.path", wanted, str(file)) from error
    if not isinstance(content, dict):
        raise must_be("router.path", FORMAT, str(file))
    return content


def _renamed(weights: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """``weights`` with the first part of each name replaced, where ``names`` has it."""
    split = {key: key.partition(".") for key in weights}
    return {
        names.get(first, first) + dot + rest: weights[key]
        for key, (first, dot, rest) in split.items()
    }


def _config(
    kind: _Class, args: dict[str, Any], weights: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], int]:
    """The router's config, and its SLM's width (0 where only logits are read).

    Sizes come from the weights, as a file need not say them.
    """
    blocks = {key for key in weights if key.startswith("backbone.blocks.") and "layer_norm" in key}
    count = len(blocks) // 2
    dims = [weights[f"backbone.blocks.{i}.layer_norm.weight"].shape[0] for i in range(count)]
    config = {
        "_target_": kind.target,
        "normalize_input": args.get("normalize_input", False),
        "hidden_dims": dims,
        "expansion": weights["backbone.blocks.0.mlp.0.weight"].shape[0] // dims[0],
        "dropout": args.get("dropout_rate", 0.3),
    }
    if kind.target == LM_HEAD:
        vocab_size, width = weights["lm_head.weight"].shape
        return config | {"vocab_size": vocab_size, "kept": args.get("topk")}, width
    if kind.target == WINDOW:
        window = args.get("neural_window_size", WINDOW_SIZE)
        width = weights["projection.weight"].shape[1] // window
        (reads,) = kind.inputs
        config |= {"reads": reads, "window": window, "width": width}
        return config, width if reads == "hidden" else 0
    alone = kind.inputs == ["logits"]
    first = "combined_projection.weight" if alone else "logits_projection.weight"
    top_k = weights[first].shape[1] if "logits" in kind.inputs else 1
    width = weights["combined_projection.weight"].shape[1] // len(kind.inputs)
    return config | {"inputs": kind.inputs, "top_k": top_k}, 0 if alone else width


def _embeddings_of(model: str | None) -> torch.Tensor:
    """The input embeddings of an SLM."""
    from r2r.pairs import load_model

    loaded: Any = load_model(
        ModelConfig(path=model or ""), "pretrained_model_name", dtype="float32", device="cpu"
    )
    return loaded.get_input_embeddings().weight
