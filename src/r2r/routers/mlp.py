"""The paper's router: an MLP over what the SLM knows of the token it is about to write."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from r2r.errors import must_be
from r2r.routers.base import Router
from r2r.trace import TOP_K, TokenSignals


class MLPRouter(Router):
    """Hidden state, token embedding and top logits -> residual MLP -> one logit (paper, sec. 4.2).

    Parameters have the names of the published ``HiddenStatesTokenLMHeadLogitsClassifier``. The
    token embeddings [vocab, hidden] are the SLM's input table: frozen, never trained or saved,
    given here or by ``attach`` before the first forward.

    ``hidden_size``: width of the SLM; ``top_k``: logits read of each position, highest first;
    ``hidden_dims``: width of each residual block; ``expansion``: a block's inner width over its
    own; ``dropout``: share of activations dropped in training.
    """

    learns = True
    token_embeddings: Tensor | None

    def __init__(
        self,
        *,
        hidden_size: int,
        top_k: int,
        hidden_dims: list[int],
        expansion: int,
        dropout: float,
        token_embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= TOP_K:
            raise must_be("router.top_k", f"between 1 and {TOP_K}", top_k)
        if not hidden_dims or min(hidden_dims) < 1:
            raise must_be("router.hidden_dims", "one or more positive widths", hidden_dims)
        if expansion < 1:
            raise must_be("router.expansion", "1 or more", expansion)
        if not 0 <= dropout < 1:
            raise must_be("router.dropout", "at least 0 and below 1", dropout)
        self.top_k = top_k
        self.hidden_size = hidden_size
        self.logits_projection = nn.Linear(top_k, hidden_size)
        self.combined_projection = nn.Linear(3 * hidden_size, hidden_dims[0])
        self.backbone = _Backbone(hidden_dims, expansion, dropout)
        self.register_buffer("token_embeddings", None, persistent=False)
        if token_embeddings is not None:
            self.attach(token_embeddings)

    def attach(self, token_embeddings: Tensor) -> None:
        """Use the SLM's input embeddings [vocab, hidden], shared with it where they can be."""
        if token_embeddings.ndim != 2 or token_embeddings.shape[1] != self.hidden_size:
            wanted = f"an SLM whose token embeddings are [vocab, {self.hidden_size}]"
            raise must_be("pair.slm", wanted, list(token_embeddings.shape))
        device = self.logits_projection.weight.device
        self.token_embeddings = token_embeddings.detach().to(device)

    def forward(self, hidden: Tensor, logits: Tensor, token: Tensor) -> Tensor:
        """``hidden`` [batch, hidden], ``logits`` [batch, >= top_k], ``token`` [batch] int64.

        Returns the logit of each token being divergent [batch].
        """
        assert self.token_embeddings is not None, "attach() the SLM's token embeddings first"
        embedded = nn.functional.embedding(token, self.token_embeddings).to(hidden.dtype)
        projected = self.logits_projection(logits[:, : self.top_k])
        combined = torch.cat([hidden, embedded, projected], dim=-1)
        return self.backbone(self.combined_projection(combined)).squeeze(-1)

    @torch.no_grad()
    def score(self, signals: TokenSignals) -> Tensor:
        """Probability that each token is divergent [batch] float32; call in eval mode."""
        assert not self.training, "scores of a router in training mode are random"
        hidden, logits = signals.hidden.float(), signals.logits.float()
        return torch.sigmoid(self(hidden, logits, signals.token))


class _Backbone(nn.Module):
    """Residual blocks [batch, hidden_dims[0]] -> [batch, 1]."""

    def __init__(self, hidden_dims: list[int], expansion: int, dropout: float) -> None:
        super().__init__()
        widths = [hidden_dims[0], *hidden_dims]
        self.input_projection = nn.Linear(hidden_dims[0], hidden_dims[0])
        self.blocks = nn.ModuleList(
            _Block(width, after, expansion, dropout)
            for width, after in zip(widths, hidden_dims, strict=False)
        )
        last = hidden_dims[-1]
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
