"""Routers see signals, never engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from r2r.routers.base import Router


def load_router(path: str | Path, token_embeddings: torch.Tensor | None = None) -> Router:
    """A router from a folder of ours, or from a published .pt file (local, or owner/name/file.pt
    on the hub), in eval mode: its ``score(TokenSignals)`` gives one number a token.

    ``token_embeddings`` [vocab, hidden] are the input embeddings of the router's SLM. Published
    files name that SLM, which is loaded for its embeddings where none are given here.
    Raises ConfigError where the file is missing, damaged, of another format or another SLM.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        from r2r.routers.checkpoint import load_saved

        return load_saved(folder, token_embeddings=token_embeddings).router
    from r2r.routers.published import load_published

    return load_published(path, token_embeddings).router
