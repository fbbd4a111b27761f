"""The paper's router and its ablations: an MLP over what the SLM knows of the token it writes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from r2r.errors import must_be
from r2r.routers.learned import LearnedRouter
from r2r.trace import TOP_K

INPUTS = ("hidden", "token", "logits")


def check_blocks(group: str, hidden_dims: list[int], expansion: int, dropout: float) -> None:
    """Raises ConfigError, with the key in ``group``, for blocks that cannot be built."""
    if not hidden_dims or min(hidden_dims) < 1:
        raise must_be(f"{group}.hidden_dims", "one or more positive widths", hidden_dims)
    if expansion < 1:
        raise must_be(f"{group}.expansion", "1 or more", expansion)
    if not 0 <= dropout < 1:
        raise must_be(f"{group}.dropout", "at least 0 and below 1", dropout)


class MLPRouter(LearnedRouter):
    """Hidden state, token embedding and top logits -> residual MLP -> one logit (paper, sec. 4.2).

    The token embeddings [vocab, hidden] are the SLM's input table: frozen, never trained or
    saved, given here or by ``attach`` before the first forward.

    ``inputs``: which of ``INPUTS`` it reads; all three is the paper's router, fewer its
    ablations; ``normalize_input``: layer norms on hidden state and embedding, softmax on logits;
    ``hidden_size``: width of the SLM; ``top_k``: logits read of each position, highest first;
    ``hidden_dims``: width of each residual block; ``expansion``: a block's inner width over its
    own; ``dropout``: share of activations dropped in training.
    """

    token_embeddings: Tensor | None

    def __init__(
        self,
        *,
        inputs: list[Literal["hidden", "token", "logits"]],
        normalize_input: bool,
        hidden_size: int,
        top_k: int,
        hidden_dims: list[int],
        expansion: int,
        dropout: float,
        token_embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not inputs or len(set(inputs)) < len(inputs):
            raise must_be("router.inputs", f"one or more of {', '.join(INPUTS)}, once", inputs)
        if not 1 <= top_k <= TOP_K:
            raise must_be("router.top_k", f"between 1 and {TOP_K}", top_k)
        check_blocks("router", hidden_dims, expansion, dropout)
        self.inputs = [name for name in INPUTS if name in inputs]
        self.normalize_input = normalize_input
        self.hidden_size = hidden_size
        self.top_k = top_k
        self.hidden_dims = hidden_dims
        self.expansion = expansion
        self.dropout = dropout

        widths = {"hidden": hidden_size, "token": hidden_size, "logits": hidden_size}
        if self.inputs == ["logits"]:
            widths["logits"] = top_k
        elif "logits" in inputs:  # beside others: brought to their width first
            self.logits_projection = nn.Linear(top_k, hidden_size)
        width = sum(widths[name] for name in inputs)
        self.combined_projection = nn.Linear(width, hidden_dims[0])
        if normalize_input and "hidden" in inputs:
            self.layer_norm_hidden_states = nn.LayerNorm(hidden_size)
        if normalize_input and "token" in inputs:
            self.layer_norm_token = nn.LayerNorm(hidden_size)
        self.backbone = Backbone(hidden_dims, expansion, dropout)
        self.register_buffer("token_embeddings", None, persistent=False)
        if token_embeddings is not None and "token" in inputs:
            self.attach(token_embeddings)

    def attach(self, token_embeddings: Tensor) -> None:
        """Use the SLM's input embeddings [vocab, hidden], shared with it where they can be."""
        if token_embeddings.ndim != 2 or token_embeddings.shape[1] != self.hidden_size:
            wanted = f"an SLM whose token embeddings are [vocab, {self.hidden_size}]"
            raise must_be("pair.slm", wanted, list(token_embeddings.shape))
        device = self.combined_projection.weight.device
        self.token_embeddings = token_embeddings.detach().to(device)

    def forward(self, hidden: Tensor, logits: Tensor, token: Tensor) -> Tensor:
        """``hidden`` [batch, hidden], ``logits`` [batch, >= top_k], ``token`` [batch] int64.

        Returns the logit of each token being divergent [batch].
        """
        parts = []
        if "hidden" in self.inputs:
            parts.append(self.layer_norm_hidden_states(hidden) if self.normalize_input else hidden)
        if "token" in self.inputs:
            assert self.token_embeddings is not None, "attach() the SLM's token embeddings first"
            embedded = nn.functional.embedding(token, self.token_embeddings).to(hidden.dtype)
            parts.append(self.layer_norm_token(embedded) if self.normalize_input else embedded)
        if "logits" in self.inputs:
            top = logits[:, : self.top_k]
            top = top.softmax(-1) if self.normalize_input else top
            parts.append(top if self.inputs == ["logits"] else self.logits_projection(top))
        combined = torch.cat(parts, dim=-1)
        return self.backbone(self.combined_projection(combined)).squeeze(-1)


class CalibratedRouter(MLPRouter):
    """``MLPRouter`` on log-probabilities of the top logits, trained without class weights.

    Logits carry an offset that says nothing of the choice between tokens; and a loss that weights
    every divergent token like dozens of others spends the network on the clear cases. Unweighted,
    the scores are probabilities.
    """

    balanced = False
    floor, scale = -20.0, 5.0  # rarer tokens are all the same; about the spread of hidden states

    def forward(self, hidden: Tensor, logits: Tensor, token: Tensor) -> Tensor:
        chances = logits.log_softmax(-1).clamp_min(self.floor)
        return super().forward(hidden, chances / self.scale, token)


class Backbone(nn.Module):
    """Residual blocks [batch, hidden_dims[0]] -> [batch, 1]."""

    def __init__(self, hidden_dims: list[int], expansion: int, dropout: float) -> None:
        super().__init__()
        last = hidden_dims[-1]
        self.input_projection = nn.Linear(hidden_dims[0], hidden_dims[0])
        self.blocks = nn.ModuleList(
            _Block(width, after, expansion, dropout)
            for width, after in zip(hidden_dims, [*hidden_dims[1:], last], strict=True)
        )
        self.output_layer = nn.Sequential(nn.LayerNorm(last), nn.Linear(last, 1))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_projection(x)
        for block in self.blocks:
            x = block(x)
        return self.output_layer(x)


class _Block(nn.Module):
    """Pre-norm residual MLP [batch, width] -> [batch, after]."""

    def __init__(self, width: int, after: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * width, after),
            nn.Dropout(dropout),
        )
        self.dim_change = nn.Identity() if width == after else nn.Linear(width, after)

    def forward(self, x: Tensor) -> Tensor:
        return self.dim_change(x) + self.mlp(self.layer_norm(x))
