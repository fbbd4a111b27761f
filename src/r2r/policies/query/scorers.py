"""From a prompt's vector to how likely only the LLM answers it right; learned from graded answers.

``features`` [prompts, width]; ``wins`` [prompts]: 1 where the LLM's answer is right and the SLM's
wrong. The methods are those of RouteLLM (arXiv 2406.18665, section 4.2), on the pair's own answers
to the training prompts in place of people's preferences.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from sklearn.neighbors import KNeighborsClassifier

GAMMA = 10.0  # RouteLLM's
STRENGTHS = [0.1, 1.0, 10.0]  # of the logistic regression, inverse
HIDDEN = (64, 64)
NEIGHBOURS = [5, 10, 20, 40, 80]
FACTORS = 16
FACTOR_STEPS = 300
FACTOR_DECAY = 3.0
WEIGHTS = "scorer.safetensors"


class Scorer(Protocol):
    def score(self, features: np.ndarray) -> np.ndarray:
        """Score of each prompt [prompts], 0 to 1, higher where the LLM is needed more."""
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """All that ``score`` needs."""
        ...


@dataclass(frozen=True, slots=True)
class Similarity:
    """The examples' wins, weighted by gamma^(1 + similarity / highest similarity).

    With two models RouteLLM's weighted Bradley-Terry fit has this closed form.
    """

    examples: np.ndarray  # [examples, width], of length 1 each
    wins: np.ndarray  # [examples]

    @classmethod
    def fit(cls, features: np.ndarray, wins: np.ndarray) -> Similarity:
        return cls(_unit(features), wins.astype(np.float32))

    def score(self, features: np.ndarray) -> np.ndarray:
        cosine = _unit(features) @ self.examples.T
        highest = np.maximum(cosine.max(axis=1, keepdims=True), 1e-6)
        weights = GAMMA ** (1 + cosine / highest)
        return weights @ self.wins / weights.sum(axis=1)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"examples": self.examples, "wins": self.wins}


@dataclass(frozen=True)
class Neighbours:
    """The share of wins among the nearest examples, by cosine distance: LLMRouterBench (arXiv
    2601.07206) finds that several learned routers lose to it."""

    examples: np.ndarray  # [examples, width]
    wins: np.ndarray  # [examples]
    count: int

    @cached_property
    def model(self) -> KNeighborsClassifier:
        from sklearn.neighbors import KNeighborsClassifier

        made = KNeighborsClassifier(self.count, metric="cosine")
        return made.fit(self.examples, self.wins.astype(int))

    def score(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict_proba(features))[:, 1]

    def tensors(self) -> dict[str, np.ndarray]:
        return {"examples": self.examples, "wins": self.wins, "count": np.array([self.count])}


@dataclass(frozen=True, slots=True)
class Network:
    """A sigmoid over ReLU layers; with a single layer, logistic regression.

    ``layers``: each a weight [in, out] and a bias [out].
    """

    layers: list[tuple[np.ndarray, np.ndarray]]

    def score(self, features: np.ndarray) -> np.ndarray:
        (*inner, (weight, bias)), x = self.layers, features
        for each, shift in inner:
            x = np.maximum(x @ each + shift, 0)
        return 1 / (1 + np.exp(-(x @ weight + bias)[:, 0]))

    def tensors(self) -> dict[str, np.ndarray]:
        named = {f"weight.{n}": weight for n, (weight, _) in enumerate(self.layers)}
        return named | {f"bias.{n}": bias for n, (_, bias) in enumerate(self.layers)}


def fit_neighbours(features: np.ndarray, wins: np.ndarray) -> Neighbours:
    """How many neighbours are asked is chosen by cross-validation."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier

    possible = [count for count in NEIGHBOURS if count <= len(features) // 2]
    search = GridSearchCV(
        KNeighborsClassifier(metric="cosine"), {"n_neighbors": possible}, scoring="roc_auc", cv=3
    )
    found = search.fit(features, wins).best_params_["n_neighbors"]
    return Neighbours(features, wins.astype(np.float32), found)


def fit_linear(features: np.ndarray, wins: np.ndarray) -> Network:
    """Logistic regression; its regularisation is chosen by cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        LogisticRegression(max_iter=1000), {"C": STRENGTHS}, scoring="neg_log_loss", cv=3
    )
    model: Any = search.fit(features, wins).best_estimator_
    return Network([(model.coef_.T, model.intercept_)])


def fit_mlp(features: np.ndarray, wins: np.ndarray, seed: int) -> Network:
    """A small MLP, stopped early on a tenth of the prompts; inputs are standardised."""
    from sklearn.neural_network import MLPClassifier

    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = MLPClassifier(HIDDEN, alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed)
    model.fit((features - mean) / scale, wins)
    (weight, bias), *others = zip(model.coefs_, model.intercepts_, strict=True)
    first = weight / scale[:, None]
    return Network([(first, bias - mean @ first), *others])


def fit_factors(features: np.ndarray, right: np.ndarray, seed: int) -> Network:
    """Matrix factorisation: the logit of model m answering prompt q right is v_m . (P q + c) + b_m.

    ``right`` [prompts, models]: whose answers are right, the SLM's first and the LLM's last.
    RouteLLM fits pairs of models of which one won; where the LLM is nearly always right these say
    nothing of the prompts that the SLM can do, so every entry of the matrix is fitted here. What
    routing needs of it, the LLM's logit minus the SLM's, is linear in the prompt.
    """
    import torch

    torch.manual_seed(seed)
    x = torch.tensor(features, dtype=torch.float32)
    answers = torch.tensor(right, dtype=torch.float32)
    project = torch.nn.Linear(x.shape[1], FACTORS)
    models = torch.nn.Parameter(torch.randn(right.shape[1], FACTORS) / FACTORS**0.5)
    skill = torch.nn.Parameter(torch.zeros(right.shape[1]))
    decayed = {"params": [*project.parameters(), models], "weight_decay": FACTOR_DECAY}
    optimizer = torch.optim.AdamW([decayed, {"params": [skill], "weight_decay": 0.0}], lr=1e-2)
    for _ in range(FACTOR_STEPS):
        logits = project(x) @ models.T + skill
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        lead = models[-1] - models[0]
        weight, bias = project.weight.T @ lead, project.bias @ lead + skill[-1] - skill[0]
    return Network([(weight[:, None].numpy(), bias[None].numpy())])


def save_scorer(scorer: Scorer, folder: Path) -> None:
    from safetensors.numpy import save_file

    from r2r.records import whole_file

    tensors = {n: np.ascontiguousarray(t, np.float32) for n, t in scorer.tensors().items()}
    with whole_file(folder / WEIGHTS) as path:
        save_file(tensors, path)


def load_scorer(folder: Path) -> Scorer:
    from safetensors.numpy import load_file

    tensors = load_file(folder / WEIGHTS)
    if "count" in tensors:
        return Neighbours(tensors["examples"], tensors["wins"], int(tensors["count"][0]))
    if "examples" in tensors:
        return Similarity(**tensors)
    layers = range(len(tensors) // 2)
    return Network([(tensors[f"weight.{n}"], tensors[f"bias.{n}"]) for n in layers])


def _unit(rows: np.ndarray) -> np.ndarray:
    """Each row at length 1 (a row of zeros stays)."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
