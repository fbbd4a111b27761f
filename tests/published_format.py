"""Router files as the published classes have them, and what they compute, by description alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from r2r.trace import TokenSignals

HIDDEN, K, VOCAB, DIMS = 6, 20, 50, [8, 12, 4]
WINDOW = 3  # what files mean that do not say theirs


def windowed(signals: TokenSignals) -> TokenSignals:
    """Each row with the two before it (wrapping round), the oldest first, well into an answer."""

    def joined(rows: Tensor) -> Tensor:
        return torch.cat([rows.roll(back, 0) for back in range(WINDOW - 1, -1, -1)], -1)

    return TokenSignals(
        signals.token, joined(signals.logits), joined(signals.hidden), signals.position + WINDOW
    )


def checkpoint(kind: str, normalize: bool = False, threshold: float | None = 0.4) -> dict:
    """A file's content as the published classes have it: names and shapes, random weights."""
    shapes: dict[str, tuple[int, int]] = {}
    norms: dict[str, int] = {}
    first = DIMS[0]
    if kind == "LogitsClassifier":
        shapes["logits_projection"] = (first, K)
    elif kind == "MultiLogitsClassifier":
        shapes["logits_projection"] = (first, WINDOW * K)
    elif kind == "MultiHiddenStatesClassifier":
        shapes["hidden_states_projection"] = (first, WINDOW * HIDDEN)
    elif kind == "HiddenStatesClassifierWithLMHead":
        shapes["lm_head"] = (VOCAB, HIDDEN)
        shapes["post_lm_projection"] = (first, VOCAB)
        norms |= {"layer_norm": HIDDEN} if normalize else {}
    elif kind == "HiddenStatesClassifier":
        shapes["hidden_states_projection"] = (first, HIDDEN)
        norms |= {"layer_norm": HIDDEN} if normalize else {}
    else:
        parts = 1 + ("Token" in kind) + ("Logits" in kind)
        shapes["combined_projection"] = (first, parts * HIDDEN)
        if "Logits" in kind:
            shapes["logits_projection"] = (HIDDEN, K)
        if normalize:
            norms["layer_norm_hidden_states"] = HIDDEN
            norms |= {"layer_norm_token": HIDDEN} if "Token" in kind else {}
    shapes["backbone.input_projection"] = (first, first)
    for i, (width, after) in enumerate(zip(DIMS, [*DIMS[1:], DIMS[-1]], strict=True)):
        block = f"backbone.blocks.{i}"
        norms[f"{block}.layer_norm"] = width
        shapes[f"{block}.mlp.0"] = (3 * width, width)
        shapes[f"{block}.mlp.3"] = (after, 3 * width)
        if width != after:
            shapes[f"{block}.dim_change"] = (after, width)
    norms["backbone.output_layer.0"] = DIMS[-1]
    shapes["backbone.output_layer.1"] = (1, DIMS[-1])

    draw = torch.Generator().manual_seed(3)
    weights = {}
    for name, shape in {**shapes, **{name: (width,) for name, width in norms.items()}}.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=draw) / 2
        weights[f"{name}.bias"] = torch.randn(shape[:1], generator=draw) / 2
    return {
        "model_type": kind,
        "init_args": {"hidden_dims": DIMS, "expansion_factor": 3, "normalize_input": normalize},
        "common_args": {"threshold": threshold, "input_type": ["unused"]},
        "model_specific_args": {},
        "state_dict": weights,
    }


def reference(content: dict, signals: TokenSignals, embeddings: Tensor) -> Tensor:
    """Probabilities by the published description, without modules."""
    weights, kind = content["state_dict"], content["model_type"]
    normalize = content["init_args"]["normalize_input"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    hidden, token, logits = signals.hidden, embeddings[signals.token], signals.logits[:, :K]
    if kind.startswith("Multi"):
        hidden, logits = signals.hidden, signals.logits.unflatten(-1, (WINDOW, -1))[..., :K]
    if normalize:
        alone = kind in ("HiddenStatesClassifier", "HiddenStatesClassifierWithLMHead")
        if "HiddenStates" in kind:
            hidden = norm("layer_norm" if alone else "layer_norm_hidden_states", hidden)
        if "Token" in kind:
            token = norm("layer_norm_token", token)
        logits = logits.softmax(-1)
    if kind in ("LogitsClassifier", "MultiLogitsClassifier"):
        x = linear("logits_projection", logits.flatten(1))
    elif kind == "HiddenStatesClassifierWithLMHead":
        kept = content["init_args"].get("topk")
        out = linear("lm_head", hidden)
        x = linear(
            "post_lm_projection", out.sort(-1, descending=True)[0][:, :kept] if kept else out
        )
    elif kind in ("HiddenStatesClassifier", "MultiHiddenStatesClassifier"):
        x = linear("hidden_states_projection", hidden)
    else:
        parts = [hidden]
        parts += [token] if "Token" in kind else []
        parts += [linear("logits_projection", logits)] if "Logits" in kind else []
        x = linear("combined_projection", torch.cat(parts, -1))
    x = linear("backbone.input_projection", x)
    for i in range(len(DIMS)):
        block = f"backbone.blocks.{i}"
        changed = f"{block}.dim_change"
        kept = linear(changed, x) if f"{changed}.weight" in weights else x
        inner = F.gelu(linear(f"{block}.mlp.0", norm(f"{block}.layer_norm", x)))
        x = kept + linear(f"{block}.mlp.3", inner)
    x = linear("backbone.output_layer.1", norm("backbone.output_layer.0", x))
    return torch.sigmoid(x).squeeze(-1)
