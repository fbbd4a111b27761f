"""The learned test of the LLM's side: what it reads, what it is trained on, what it refuses."""

import asyncio

import numpy as np
import pytest
import torch
from test_labeling import label, labeler, queries, run
from toy import ToyEngine

from r2r.engines.base import Prefill, Verified
from r2r.errors import ConfigError
from r2r.labeling.dataset import LARGE, Labels
from r2r.labeling.heard import JudgedTokens, log_ratios
from r2r.policies.learned import Learned, about
from r2r.routers.base import Router
from r2r.trace import TokenSignals

OPTIONS = {"hidden_dims": [4], "expansion": 2, "dropout": 0.0}


def heard(logits, indices):
    rows = len(logits)
    signals = TokenSignals(
        torch.tensor(indices)[:, 0], torch.tensor(logits), torch.zeros(rows, 2), torch.arange(rows)
    )
    return Prefill(signals, torch.tensor(indices))


def test_the_given_tokens_own_logit_comes_first_and_a_rare_one_has_the_lowest():
    read = heard([[9.0, 7.0, 1.0]] * 3, [[5, 6, 7]] * 3)
    seen = about(torch.tensor([6, 5, 88]), read.signals, read.indices)
    assert seen.logits.tolist() == [[7, 9, 7], [9, 9, 7], [1, 9, 7]]
    assert seen.token.tolist() == [6, 5, 88]


class ByLogit(Router):
    """Finds a token as divergent as it is unlikely."""

    def score(self, signals):
        return 1 - (signals.logits[:, 0] - signals.logits[:, 1]).exp()


def test_a_token_is_refused_from_the_bound_on_unless_it_is_the_llms_own():
    read = heard([[9.0, 8.9, 1.0]] * 4, [[5, 6, 7]] * 4)
    found = Verified([1.0] * 4, [0.0] * 4, [5, 5, 5, 7, 5], read)
    test = Learned(bound=0.5, **OPTIONS)
    test.attach(ByLogit())
    assert test.accepts([5, 6, 7, 7], found) == [True, True, False, True]
    strict = Learned(bound=0.05, **OPTIONS)
    strict.attach(ByLogit())
    assert strict.accepts([5, 6, 7, 7], found) == [True, False, False, True]


def test_a_bound_that_is_no_probability_is_refused():
    with pytest.raises(ConfigError, match=r"policy\.accept\.bound must be between 0 and 1"):
        Learned(bound=1.5, **OPTIONS)


def test_labels_hold_what_the_llm_knew_where_the_models_differ(tmp_path):
    made = labeler()
    run(made, queries(10), tmp_path)
    labels = Labels.open(tmp_path)
    for shard, large in zip(labels.shards, labels.large, strict=True):
        at = np.flatnonzero(shard["mismatch"] == 1)
        assert {name: kind.dtype for name, kind in large.items()} == LARGE
        for row, where in enumerate(at):
            query = queries(10)[shard["data_id"][where]]
            answer = shard["real_token"][shard["data_id"] == shard["data_id"][where]].tolist()
            text = [*query.tokens, *answer]
            place = len(query.tokens) - 1 + int(shard["position"][where])
            alone = asyncio.run(ToyEngine(made.llm.rule).prefill(text[: place + 2], place))
            assert large["large_indices"][row].tolist() == alone.indices[0].tolist()
            assert large["large_logits"][row].tolist() == alone.signals.logits[0].tolist()
            hidden = alone.signals.hidden[0].tolist()
            assert large["large_last_hidden_states"][row].tolist() == hidden


def test_it_is_trained_on_the_tokens_that_differ(tmp_path):
    label(tmp_path)
    labels = Labels.open(tmp_path)
    tokens = JudgedTokens(labels)
    counts = labels.manifest["counts"]
    rows = [len(at) for split in ("train", "validation", "test") for at in tokens.rows(split)]
    assert sum(rows) == counts["neutral"] + counts["divergent"]
    divergent = sum(int((shard["divergent"] == 1).sum()) for shard in tokens.shards)
    assert divergent == counts["divergent"]
    ratios, _ = log_ratios(tokens, "train")
    assert (ratios < 0).all()  # the toy LLM is sure of its own


def test_labels_without_the_llms_part_are_read_and_named(tmp_path):
    label(tmp_path)
    labels = Labels.open(tmp_path)
    old = Labels(labels.folder, labels.manifest, labels.shards, [{} for _ in labels.shards])
    assert old.rows("train")
    with pytest.raises(
        ConfigError,
        match=r"labels must be made anew for policy/accept=learned .*nothing of the LLM",
    ):
        JudgedTokens(old)
