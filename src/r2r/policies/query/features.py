"""What a query-level router sees of a prompt, as one vector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from r2r.engines.base import Engine
from r2r.errors import ConfigError
from r2r.records import read_json, write_json

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

WORDS = r"\w+|[^\w\s]"
MOST_WORDS = 4096
ENCODER_TOKENS = 512  # what BERT-like encoders read of a prompt
VOCABULARY = "words.json"


class Features(Protocol):
    """A prompt's tokens as a vector."""

    async def of(self, tokens: list[int]) -> np.ndarray:
        """[width] float32."""
        ...


class PromptState:
    """The SLM's last hidden state, after the final norm, at the end of the prompt."""

    def __init__(self, slm: Engine):
        self.slm = slm

    async def of(self, tokens: list[int]) -> np.ndarray:
        any_token = 0  # the signals are those that predict it, so it does not change them
        read = await self.slm.prefill([*tokens, any_token], len(tokens) - 1)
        return read.signals.hidden[0].numpy().astype(np.float32)


class Words:
    """TF-IDF of the prompt's words and pairs of words: needs no other model."""

    def __init__(self, tokenizer: Any, vectorizer: TfidfVectorizer):
        self.tokenizer, self.vectorizer = tokenizer, vectorizer

    @classmethod
    def learn(cls, tokenizer: Any, prompts: list[list[int]]) -> Words:
        """The words of ``prompts``, and how rare each is."""
        vectorizer = _vectorizer(max_features=MOST_WORDS)
        vectorizer.fit(_text(tokenizer, tokens) for tokens in prompts)
        return cls(tokenizer, vectorizer)

    @classmethod
    def load(cls, tokenizer: Any, folder: Path) -> Words:
        saved = read_json(folder / VOCABULARY)
        vectorizer = _vectorizer(vocabulary=saved["words"])
        vectorizer.idf_ = np.array(saved["idf"])
        return cls(tokenizer, vectorizer)

    def save(self, folder: Path) -> None:
        words = self.vectorizer.get_feature_names_out().tolist()
        write_json(folder / VOCABULARY, {"words": words, "idf": self.vectorizer.idf_.tolist()})

    async def of(self, tokens: list[int]) -> np.ndarray:
        found: Any = self.vectorizer.transform([_text(self.tokenizer, tokens)])
        return found.toarray()[0].astype(np.float32)


class Encoded:
    """Mean of a text encoder's last hidden states (a BERT or sentence encoder).

    ``path``: a folder or hub id. Raises ConfigError where transformers cannot read it.
    """

    def __init__(self, tokenizer: Any, path: str, device: str):
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer, self.device = tokenizer, device
        try:
            self.own_tokenizer: Any = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModel.from_pretrained(path, use_safetensors=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            wanted = "a text encoder that transformers can read (safetensors)"
            raise ConfigError(
                f"query_level.encoder must be {wanted}, got {path!r}: {reason}"
            ) from error
        self.model = model.eval().to(device)

    async def of(self, tokens: list[int]) -> np.ndarray:
        import torch

        text = _text(self.tokenizer, tokens)
        inputs = self.own_tokenizer(
            text, truncation=True, max_length=ENCODER_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self.model(**inputs.to(self.device)).last_hidden_state
        return states[0].float().mean(dim=0).cpu().numpy()


def _text(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True)


def _vectorizer(**options: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=WORDS, ngram_range=(1, 2), sublinear_tf=True, **options)
