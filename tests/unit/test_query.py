"""Query-level routing: what is learned, what is saved, and the threshold of a given cost."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from r2r.config import ModelConfig
from r2r.costs import Params
from r2r.engines.base import Sampling
from r2r.engines.torch.engine import TorchEngine
from r2r.errors import ConfigError
from r2r.pairs import load_model
from r2r.policies.base import Prompt
from r2r.policies.query.features import Encoded, PromptState, Words
from r2r.policies.query.generator import (
    QueryLevel,
    QueryRouter,
    by_llm,
    matched_threshold,
)
from r2r.policies.query.scorers import (
    Neighbours,
    Network,
    Similarity,
    fit_factors,
    fit_linear,
    fit_mlp,
    fit_neighbours,
    load_scorer,
    save_scorer,
)
from r2r.policies.single import Single

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano"
PARAMS = Params(slm_b=1.0, llm_b=10.0)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO / "llm")


@pytest.fixture(scope="module")
def graded():
    """Prompts of which the SLM fails those that lie one way, now and then the others too."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 8)).astype(np.float32)
    hard = features[:, 0] + 0.3 * rng.normal(size=400) > 0
    right = np.stack([~hard, ~hard | (rng.random(400) < 0.5), np.ones(400, bool)], axis=1)
    return features, right, (right[:, -1] & ~right[:, 0]).astype(int)


SCORERS = {
    "sw": lambda x, right, wins: Similarity.fit(x, wins),
    "knn": lambda x, right, wins: fit_neighbours(x, wins),
    "linear": lambda x, right, wins: fit_linear(x, wins),
    "mlp": lambda x, right, wins: fit_mlp(x, wins, 0),
    "mf": lambda x, right, wins: fit_factors(x, right, 0),
}


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_learns_and_survives_the_disk(name, graded, tmp_path):
    features, right, wins = graded
    scorer = SCORERS[name](features[:300], right[:300], wins[:300])
    scores = scorer.score(features[300:])
    assert scores.shape == (100,) and 0 <= scores.min() < scores.max() <= 1
    needed, others = (scores[wins[300:] == value].mean() for value in (1, 0))
    assert needed > others + (0.05 if name == "sw" else 0.15)
    save_scorer(scorer, tmp_path)
    assert np.allclose(load_scorer(tmp_path).score(features[300:]), scores, atol=1e-5)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_similarity_by_hand():
    """Two examples, one of them the question itself: weights 10^2 and 10^1."""
    scorer = Similarity.fit(np.eye(2, dtype=np.float32) * 5, np.array([1, 0]))
    assert scorer.score(np.array([[2.0, 0.0]])) == pytest.approx(100 / 110)


def test_neighbours_by_hand():
    """Of the three examples that point nearly the same way two were won."""
    examples = np.array([[1, 0], [5, 0.1], [2, 0.2], [0, 1]], np.float32)
    scorer = Neighbours(examples, np.array([1, 1, 0, 0], np.float32), 3)
    assert scorer.score(np.array([[3.0, 0.0]])) == pytest.approx(2 / 3)


def test_an_mlp_scores_as_scikit_learns_own(graded):
    from sklearn.neural_network import MLPClassifier

    features, _, wins = graded
    model = MLPClassifier((5, 4), max_iter=50, random_state=0).fit(features, wins)
    network = Network(list(zip(model.coefs_, model.intercepts_, strict=True)))
    assert np.allclose(network.score(features), model.predict_proba(features)[:, 1])


def test_words_are_the_same_from_disk(tokenizer, tmp_path):
    prompts = [tokenizer(text).input_ids for text in ("Ann has 79 cups.", "Ben buys 12 + 3.")]
    words = Words.learn(tokenizer, prompts)
    words.save(tmp_path)
    loaded = Words.load(tokenizer, tmp_path)
    for tokens in [*prompts, tokenizer("Ann buys 12 hats.").input_ids]:
        vector = asyncio.run(words.of(tokens))
        assert vector.dtype == np.float32 and np.linalg.norm(vector) == pytest.approx(1)
        assert (vector == asyncio.run(loaded.of(tokens))).all()
    assert "ann has" in words.vectorizer.vocabulary_


@pytest.fixture(scope="module")
def engines():
    def engine(name):
        model = load_model(ModelConfig(path=str(NANO / name)), name, dtype="float32", device="cpu")
        return TorchEngine(model=model, eos_ids={3}, banned=[5], max_batch=4,
                           max_prefill_tokens=64)  # fmt: skip

    return {name: engine(name) for name in ("slm", "llm")}


def test_the_prompts_state_is_the_models_own(engines):
    tokens = [10, 20, 30, 40]
    with torch.inference_mode():
        own = engines["slm"].runner.model
        out = own(input_ids=torch.tensor([tokens]), output_hidden_states=True)
    state = asyncio.run(PromptState(engines["slm"]).of(tokens))
    assert np.allclose(state, out.hidden_states[-1][0, -1], atol=1e-5)


def test_an_encoder_is_read_from_a_folder(tokenizer, tmp_path):
    letters = [chr(code) for code in range(97, 123)]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "vocab_size": 30}  # fmt: skip
    BertModel(BertConfig(**shape)).save_pretrained(tmp_path)
    encoded = Encoded(tokenizer, str(tmp_path), "cpu")
    one, other = (asyncio.run(encoded.of(tokenizer(text).input_ids)) for text in ("a b", "c d"))
    assert one.shape == (16,) and not np.allclose(one, other)
    with pytest.raises(ConfigError, match=r"query_level\.encoder must be a text encoder"):
        Encoded(tokenizer, str(tmp_path / "nowhere"), "cpu")


class Parity:
    """Odd first tokens need the LLM."""

    async def of(self, tokens):
        return np.array([float(tokens[0] % 2)])

    def score(self, features):
        return features[:, 0]


def test_an_answer_is_one_models_as_a_whole(tokenizer, engines):
    common = {"tokenizer": tokenizer, "context": 256, "concurrency": 4}
    alone = {n: Single(engine=e, source=n, **common) for n, e in engines.items()}
    router = QueryRouter(Parity(), Parity())
    assert router.scores([[4], [5]]).tolist() == [0.0, 1.0]
    generator = QueryLevel(router=router, threshold=0.5, **alone, **common)
    asked = [Prompt([first, 20, 30], Sampling(12)) for first in (10, 11, 12, 13)]
    traces = generator.generate(asked)
    for prompt, trace, name in zip(asked, traces, ["slm", "llm"] * 2, strict=True):
        (expected,) = alone[name].generate([prompt])
        assert trace.steps == expected.steps
        assert {step.source for step in trace.steps} == {name}


def average(scores, slm, llm, threshold):
    large = by_llm(scores, threshold)
    spent = 10.0 * llm[large].sum() + 1.0 * slm[~large].sum()
    return spent / (llm[large].sum() + slm[~large].sum())


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(1, 50), st.integers(1, 50)),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 12),
)
def test_no_threshold_costs_nearer_to_the_target(rows, target):
    scores, slm, llm = (np.array(column) for column in zip(*rows, strict=True))
    chosen = matched_threshold(scores, slm, llm, PARAMS, target)
    found = abs(average(scores, slm, llm, chosen) - target)
    for threshold in (0.0, *scores, 1.0):
        assert found <= abs(average(scores, slm, llm, threshold) - target) + 1e-9
