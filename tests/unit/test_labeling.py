import asyncio
import json
import math

import numpy as np
import pytest
from toy import CLOSE, END, GO, THINK, TOP, ToyEngine, decode, ids

from r2r.config import LabelerConfig, PromptsConfig
from r2r.errors import ConfigError
from r2r.labeling.continuations import CONTEXT_STEP, Fork, compare
from r2r.labeling.dataset import Labels
from r2r.labeling.flow import SILENT, label_queries
from r2r.labeling.labeler import QueryLabeler
from r2r.labeling.prompts import read_queries
from r2r.labeling.respond import Query, Response
from r2r.labeling.rules import PathFollowing
from r2r.labeling.sentences import Sentences
from r2r.labeling.shards import assign_splits
from r2r.labeling.verify import EquivalenceVerifier
from r2r.records import MANIFEST, read_json

PLAN = ids(
    "<think>", "So ", "1", "+", "2", "=", "3", ".\n", "Now ", "3", "+", "1", "=", "4", ".\n",
    "</think>", "Answer ", "4", ".\n", "<end>",
)  # fmt: skip
# Where the toy SLM leaves the plan: position -> token, and what that is.
SLIPS = {
    0: "So ",  # before <think>: masked
    1: "Then ",  # another connective: neutral
    5: " is ",  # another verb: neutral
    6: "4",  # another number: divergent
    15: "Now ",  # thinks on where the LLM stops: masked
    18: "<end>",  # leaves out the full stop: neutral
}
EQUIVALENCE = EquivalenceVerifier(synonyms={" is": "=", "is": "="}, ignored=["so", "now", "then"])


def plan(prompt, answer):
    return PLAN[len(answer)] if len(answer) < len(PLAN) else END


def slips(prompt, answer):
    slip = SLIPS.get(len(answer))
    return ids(slip)[0] if slip else plan(prompt, answer)


def queries(count=10):
    prompts = [ids("<ask>", "1", *"1234"[: n % 4], *["+"] * (n // 4), "<go>") for n in range(count)]
    return [Query(f"q{n}", prompt, f"question {n}") for n, prompt in enumerate(prompts)]


def config(**options):
    sizes = {"max_new_tokens": 40, "max_sentence_tokens": 12, "shard_queries": 4}
    shares = {"validation_share": 0.2, "test_share": 0.2}
    return LabelerConfig(**{"verifier": "equivalence", **shares, **sizes, **options})


def labeler(
    slm=slips, llm=plan, verifier=EQUIVALENCE, named="equivalence", think=(THINK, CLOSE),
    context=99, max_batch=4, rule=None, **options,
):  # fmt: skip
    settings = config(verifier=named, **options)
    sentences = Sentences(
        decode=decode,
        think_ids=[t for t in think if t is not None],
        eos_ids=[END],
        limit=settings.max_sentence_tokens,
    )
    return QueryLabeler(
        slm=slm if isinstance(slm, ToyEngine) else ToyEngine(slm),
        llm=llm if isinstance(llm, ToyEngine) else ToyEngine(llm),
        rule=rule(sentences) if rule else PathFollowing(verifier, sentences),
        sentences=sentences,
        config=settings,
        context=context,
        max_batch=max_batch,
        in_flight=settings.in_flight or max_batch,
        think_start=think[0],
        think_end=think[1],
    )


def run(made, asked, folder, progress=SILENT, proof=None):
    work = label_queries(asked, folder, made.each, made.config, made.sentences, progress, proof)
    asyncio.run(work)
    return read_json(folder / MANIFEST)


def label(folder, count=10, progress=SILENT, proof=None, **options):
    return run(labeler(**options), queries(count), folder, progress, proof)


def column(labels, name):
    return np.concatenate([shard[name] for shard in labels.shards])


def test_every_row_is_what_the_toy_models_say(tmp_path):
    label(tmp_path)
    labels = Labels.open(tmp_path)
    rows = len(PLAN)
    assert len(column(labels, "mask")) == 10 * rows
    for n, query in enumerate(queries()):
        at = slice(n * rows, (n + 1) * rows)
        text = [*query.tokens, *PLAN]
        small = [slips(query.tokens, PLAN[:t]) for t in range(rows)]
        got = {name: column(labels, name)[at].tolist() for name in labels.shards[0]}
        assert got["token_id"] == text[len(query.tokens) - 1 : -1]
        assert got["real_token"] == PLAN
        assert got["small_token"] == small
        assert got["data_id"] == [n] * rows
        assert got["position"] == list(range(rows))
        assert got["mask"] == [int(t not in (0, 15)) for t in range(rows)]
        assert got["mismatch"] == [int(t in (1, 5, 6, 18)) for t in range(rows)]
        assert got["divergent"] == [{6: 1, 0: -1, 15: -1}.get(t, 0) for t in range(rows)]
        assert len(set(got["split"])) == 1
        assert [row[0] for row in got["small_indices"]] == small
        assert got["small_logits"] == [list(range(TOP, 0, -1))] * rows
        assert [row[0] for row in got["small_last_hidden_states"]] == [
            len(query.tokens) + t for t in range(rows)
        ]


def test_column_types_are_the_published_ones_made_small(tmp_path):
    label(tmp_path)
    kinds = {name: values.dtype.name for name, values in Labels.open(tmp_path).shards[0].items()}
    assert kinds["small_logits"] == kinds["small_last_hidden_states"] == "float16"
    assert kinds["divergent"] == "int8" and kinds["small_indices"] == kinds["position"] == "int32"


def test_the_manifest_counts_and_reports(tmp_path):
    manifest = label(tmp_path)
    assert manifest["queries"] == 10
    assert manifest["counts"] == {
        "rows": 200, "masked": 20, "identical": 140, "neutral": 30, "divergent": 10,
        "unverified": 0, "unsampled": 0, "disputed": 0,
    }  # fmt: skip
    assert manifest["splits"]["train"] == {"queries": 6, "rows": 108, "divergent": 6}
    assert manifest["splits"]["test"] == {"queries": 2, "rows": 36, "divergent": 2}
    report = manifest["report"]
    assert report["divergent_tokens"] == [
        {"token": ids("4")[0], "text": "4", "count": 10, "seen": 30}
    ]
    p = np.exp(np.arange(TOP)) / np.exp(np.arange(TOP)).sum()
    assert math.isclose(report["mean_entropy"]["divergent"], -(p * np.log(p)).sum(), rel_tol=1e-5)
    example = report["examples"]["divergent"][0]
    assert (example["slm"], example["llm"]) == ("So 1+2=«4».\n", "So 1+2=«3».\n")
    assert len(report["examples"]["neutral"]) == 10


def test_continuations_start_from_the_slms_token_and_stop_with_the_sentence(tmp_path):
    llm = ToyEngine(plan)
    label(tmp_path, llm=llm, count=6)
    asked = [request for request in llm.requests if request.parent is not None]
    assert sorted({decode(request.answer) for request in asked}) == [
        "<think>So 1+2 is ", "<think>So 1+2=4", "<think>Then ",
    ]  # fmt: skip
    # The SLM's <end> at 18 ends its sentence at once: nothing to ask.
    assert all(request.budget == 11 for request in asked)
    assert llm.sessions == set() and llm.most <= 4


def test_shards_do_not_change_the_labels(tmp_path):
    one, many = label(tmp_path / "1", shard_queries=10), label(tmp_path / "2", shard_queries=3)
    assert [entry["rows"] for entry in many.pop("shards")] == [60, 60, 60, 20]
    assert [entry["rows"] for entry in one.pop("shards")] == [200]
    assert one == many
    both = [Labels.open(tmp_path / name) for name in "12"]
    for name in both[0].shards[0]:
        assert np.array_equal(column(both[0], name), column(both[1], name))


def test_unverified_tokens_get_no_label_and_disputed_ones_count_as_divergent(tmp_path):
    class Moody:
        async def verify(self, comparisons):
            cycle = ["neutral", "divergent", "disputed", "unverified"]
            return [cycle[n % 4] for n, _ in enumerate(comparisons)]

    manifest = label(tmp_path, verifier=Moody())
    labels = Labels.open(tmp_path)
    first = column(labels, "divergent")[: len(PLAN)]
    assert first[[1, 5, 6, 18]].tolist() == [0, 1, 1, -1]
    counts = manifest["counts"]
    assert (counts["divergent"], counts["disputed"], counts["unverified"]) == (20, 10, 10)
    assert counts["rows"] == sum(
        counts[kind] for kind in ("masked", "identical", "neutral", "divergent", "unverified")
    )
    assert sum(len(rows) for rows in labels.rows("train")) == 6 * (len(PLAN) - 2 - 1)


def test_unfinished_responses_are_counted_and_left_out(tmp_path):
    def never_ends(prompt, answer):
        return ids("1")[0] if len(prompt) == 3 else plan(prompt, answer)

    def never_closes(prompt, answer):
        token = plan(prompt, answer)
        return ids("So ")[0] if len(prompt) == 4 and token == CLOSE else token

    assert label(tmp_path / "1", llm=never_ends)["dropped"] == {"unfinished": 1, "no_think_end": 0}
    manifest = label(tmp_path / "2", llm=never_closes)
    assert manifest["dropped"]["no_think_end"] == 2
    assert set(column(Labels.open(tmp_path / "2"), "data_id")) == set(range(10)) - {1, 4}


def test_a_shard_of_nothing_but_unfinished_responses_is_empty(tmp_path):
    def late(prompt, answer):
        return ids("1")[0] if len(prompt) < 5 else plan(prompt, answer)

    manifest = label(tmp_path, llm=late, shard_queries=2)
    assert [entry["rows"] for entry in manifest["shards"]] == [0, 40, 20, 40, 40]
    assert len(Labels.open(tmp_path).shards) == 4


def test_the_context_bounds_responses_and_continuations(tmp_path):
    llm = ToyEngine(plan)
    longest = max(len(query.tokens) for query in queries())
    manifest = label(tmp_path, llm=llm, context=longest + len(PLAN))
    assert manifest["dropped"]["unfinished"] == 0
    most = max(len(r.prompt) + len(r.answer) + r.budget for r in llm.requests)
    assert most == longest + len(PLAN)
    assert label(tmp_path / "short", context=3)["dropped"]["unfinished"] == 10


def test_without_think_tokens_the_whole_answer_is_labelled(tmp_path):
    manifest = label(tmp_path, think=(None, None))
    assert manifest["counts"]["masked"] == 0


def test_a_prompt_that_opens_the_thinking_masks_nothing_of_the_answer(tmp_path):
    opened = [Query(q.id, [*q.tokens[:-1], THINK, GO], q.question) for q in queries()]
    answers = PLAN[1:]
    slm = ToyEngine(lambda prompt, answer: slips(prompt, PLAN[:1] + answer))
    llm = ToyEngine(lambda prompt, answer: plan(prompt, PLAN[:1] + answer))
    run(labeler(slm=slm, llm=llm), opened, tmp_path)
    masks = column(Labels.open(tmp_path), "mask").reshape(10, len(answers))
    assert masks.sum(axis=1).tolist() == [len(answers) - 1] * 10  # all but the one at </think>


def test_a_model_whose_signals_overflow_float16_is_refused(tmp_path):
    class Loud(ToyEngine):
        async def prefill(self, tokens, start, session=-1):
            found = await super().prefill(tokens, start, session)
            found.signals.hidden *= 1e6
            return found

    with pytest.raises(ConfigError, match=r"pair\.slm must be a model whose signals fit float16"):
        label(tmp_path, slm=Loud(slips))


def test_splits_are_by_prompt_and_none_is_empty():
    many = queries(16) * 2
    splits = assign_splits(many, config())
    assert splits[:16] == splits[16:]
    assert [splits[:16].count(name) for name in ("train", "validation", "test")] == [10, 3, 3]
    assert assign_splits(many[::-1], config()) == splits[::-1]
    assert set(assign_splits(queries(3), config())) == {"train", "validation", "test"}
    with pytest.raises(ConfigError, match=r"labeler\.prompts must be queries for three splits"):
        assign_splits(queries(2), config())


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_queries_from_jsonl(tmp_path):
    path = write(tmp_path / "q.jsonl", {"id": 7, "ask": "a?"}, {"ask": "b?"}, {"ask": "c?"})
    found = read_queries(PromptsConfig(data_files=path, question_field="ask", limit=2))
    assert found == [("7", "a?"), ("1", "b?")]


def test_queries_that_cannot_be_read(tmp_path):
    path = write(tmp_path / "q.jsonl", {"question": "a?"}, {"quetsion": "b?"})
    with pytest.raises(ConfigError, match=r"question_field .*line 2.*choices: quetsion"):
        read_queries(PromptsConfig(data_files=path))
    with pytest.raises(ConfigError, match=r"labeler\.prompts\.data_files must be at least one"):
        read_queries(PromptsConfig(data_files=write(tmp_path / "empty.jsonl")))
    with pytest.raises(ConfigError, match=r"labeler\.prompts\.data_files"):
        read_queries(PromptsConfig(data_files=path, dataset="a/b"))


def test_queries_from_a_hub_dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.jsonl", *({"question": f"{n}?", "id": f"x{n}"} for n in range(5)))
    found = read_queries(PromptsConfig(dataset=str(folder), limit=2))
    assert found == [("x0", "0?"), ("x1", "1?")]
    with pytest.raises(ConfigError, match=r"labeler\.prompts\.dataset must be .*'validation'"):
        read_queries(PromptsConfig(dataset=str(folder), split="validation"))


def test_what_a_verifier_is_shown_begins_alike_for_neighbours():
    tokens = [ids("1")[0]] * 4 * CONTEXT_STEP
    sentences = labeler().sentences
    response = Response(Query("q", ids("<ask>", "<go>"), "?"), 0, tokens)

    def shown(start):
        fork = Fork(response, start, tokens[0], start, tail=[tokens[0]])
        return len(compare(fork, sentences).context)

    step = CONTEXT_STEP
    assert [shown(at) for at in (0, 9, step, 2 * step - 1)] == [0, 9, step, 2 * step - 1]
    assert [shown(at) for at in (2 * step, 3 * step - 1, 3 * step)] == [step, 2 * step - 1, step]
