"""What must hold for any input: grading, sentence ends, fingerprints, shards.

Threshold choice, costs, streamed text and request bodies have theirs beside their other tests.
"""

import json
import shutil
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_labeling import label
from test_sentences import spelled

from r2r.errors import ConfigError
from r2r.evaluation.graders import answer_text, boxed_correct, last_boxed, letter_correct
from r2r.labeling.continuations import forks_of, to_follow
from r2r.labeling.dataset import COLUMNS, Labels, ShardWriter
from r2r.labeling.respond import Query, Response
from r2r.records import MANIFEST, file_hash, fingerprint, folder_hash

prose = st.text(string.ascii_letters + string.digits + " .,+=\n{}\\$", max_size=60)
integers = st.integers(-(10**12), 10**12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


# Grading.


@given(prose, integers, st.integers(0, 5))
def test_a_boxed_number_is_right_however_it_is_padded(before, number, zeros):
    padded = f"{'-' * (number < 0)}{'0' * zeros}{abs(number)}"
    assert boxed_correct(f"{before}</think>So \\boxed{{ {padded} }}.", str(number))


@given(prose, integers, integers)
def test_another_number_is_wrong_and_the_last_box_counts(before, number, other):
    assume(number != other)
    assert not boxed_correct(f"{before}</think>\\boxed{{{other}}}", str(number))
    assert boxed_correct(f"</think>\\boxed{{{other}}} no, \\boxed{{{number}}}", str(number))


@given(prose)
def test_what_is_boxed_with_balanced_braces_comes_back(inner):
    depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in inner] or [0])
    assume(depth.min() >= 0 and depth[-1] == 0 and not {"\\", "$"} & set(inner))
    assume(inner.strip(" \n{}"))
    assert last_boxed(f"x \\boxed{{{inner}}} y") == inner.strip()


@given(prose, st.sampled_from("ABCD"), st.sampled_from("ABCD"))
def test_a_letter_in_a_box_is_the_answer(before, letter, gold):
    text = f"{before}</think>Answer: {'ABCD'[('ABCD'.index(letter) + 1) % 4]}? \\boxed{{{letter}}}"
    assert letter_correct(text, gold) == (letter == gold)


@given(st.text(max_size=200), st.text(max_size=20))
def test_grading_takes_any_text(text, gold):
    assert letter_correct(text, gold or "A") in (True, False)
    assert last_boxed(text) is None or isinstance(last_boxed(text), str)
    assert answer_text(text, "</think>") in text


# Sentence ends.

sentence = st.text("ab1 .!?\n。([{)]}\"'", min_size=1, max_size=60)


@given(sentence, st.integers(1, 12))
def test_sentences_divide_a_text(text, limit):
    tokens = [ord(c) for c in text]
    sentences = spelled(limit)
    starts = sentences.starts(tokens)
    assert starts[0] == 0 and starts == sorted(starts)
    assert all(starts[start] == start <= at for at, start in enumerate(starts))
    lengths = np.bincount(starts)
    assert lengths.max() <= limit
    for start in sorted({*starts} - {0}):  # what comes before ended, or was cut
        before = tokens[starts[start - 1] : start]
        assert len(before) == limit or sentences.ends(before, tokens[start])


@given(sentence, st.integers(1, 12), st.data())
def test_a_continuation_is_followed_to_the_first_end_or_the_limit(text, limit, data):
    tokens = [ord(c) for c in text]
    sentences = spelled(limit)
    starts = sentences.starts(tokens)
    at = data.draw(st.integers(0, len(tokens) - 1))
    end = sentences.end(tokens, starts[at], at)
    last = min(at + limit, len(tokens))
    assert at < end <= last
    assert end == last or sentences.ends(tokens[starts[at] : end], tokens[end])
    assert not any(sentences.ends(tokens[starts[at] : e], tokens[e]) for e in range(at + 1, end))
    response = Response(Query("q", [], "", thinks=False), 0, tokens)
    (fork,) = forks_of(response, np.arange(len(tokens)) == at, np.zeros(len(tokens)), sentences)
    assert to_follow(fork, sentences) == [
        end - at - 1
    ]  # what the LLM writes if it goes on as it did


@given(sentence, st.integers(1, 12), st.data())
def test_a_generation_that_is_checked_at_each_token_holds_the_whole_sentence(text, limit, data):
    """And at most the one token that shows that it has ended."""
    tokens = [ord(c) for c in text]
    sentences = spelled(limit)
    at = data.draw(st.integers(0, len(tokens) - 1))
    start = sentences.starts(tokens)[at]
    stop = sentences.check(start, at)
    upto = next((e for e in range(at + 1, len(tokens)) if stop(tokens[:e])), len(tokens))
    end = sentences.end(tokens, start, at)
    assert sentences.end(tokens[:upto], start, at) == min(end, upto)
    assert end == at + limit or upto in (end, end + 1)


# Fingerprints.


@given(plain)
def test_a_fingerprint_is_that_of_the_content(content):
    again = json.loads(json.dumps(content))
    assert fingerprint(content) == fingerprint(again)
    assert len(fingerprint(content)) == 16 and set(fingerprint(content)) <= set("0123456789abcdef")


@given(st.dictionaries(st.text(max_size=5), plain, min_size=2, max_size=5))
def test_the_order_of_keys_does_not_matter(content):
    backwards = dict(reversed(content.items()))
    assert fingerprint(content) == fingerprint(backwards)


@given(plain, plain)
def test_other_content_has_another_fingerprint(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=20), min_size=1))
def test_a_folders_hash_is_that_of_its_names_and_contents(tmp_path, files):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = folder_hash(folder)
    name = sorted(files)[0]
    (folder / name).write_bytes(files[name] + b"x")
    assert folder_hash(folder) != before
    (folder / name).write_bytes(files[name])
    assert folder_hash(folder) == before
    (folder / name).rename(folder / "another")
    assert folder_hash(folder) != before


# Shards.


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_a_shard_gives_back_what_was_written(tmp_path, data):
    folder = tmp_path / "shard"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    rng, columns = np.random.default_rng(data.draw(st.integers(0, 999))), {}
    for name, kind in COLUMNS.items():
        wide = name in ("small_logits", "small_indices", "small_last_hidden_states")
        values = rng.integers(-100, 100, (rows, width) if wide else (rows,))
        columns[name] = values.astype(kind)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    with ShardWriter(folder, rows) as writer:
        for start, end in zip([0, *cuts], [*cuts, rows], strict=True):
            writer.append({name: column[start:end] for name, column in columns.items()})
    for name, column in columns.items():
        read = np.load(folder / f"{name}.npy", mmap_mode="r")
        assert read.dtype == column.dtype and read.tobytes() == column.tobytes()
    assert writer.files()["mask.npy"]["sha256"] == file_hash(folder / "mask.npy")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    label(folder)
    return folder


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_bit_and_any_cut_is_found(labels, data):
    files = sorted(p for p in labels.glob("shard-*/*") if p.suffix in (".npy", ".json"))
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(data.draw(st.sampled_from([bytes(flipped), content[:at]])))
    try:
        with pytest.raises(ConfigError, match=r"^labels: .*; delete .* or use force=true$"):
            Labels.open(labels)
    finally:
        path.write_bytes(content)
    assert Labels.open(labels).manifest == json.loads((labels / MANIFEST).read_text())
