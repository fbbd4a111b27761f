import pytest
from toy import CLOSE, END, THINK, decode, ids

from r2r.labeling.sentences import Sentences


def make(limit=10, decode=decode):
    return Sentences(decode=decode, think_ids=[THINK, CLOSE], eos_ids=[END], limit=limit)


def spelled(limit=100):
    """Every character a token."""
    return make(limit, lambda tokens: "".join(map(chr, tokens)))


def ends(text):
    return spelled().ends([ord(c) for c in text], None)


@pytest.mark.parametrize("last", list(".!?\n。！？"))
def test_sentence_punctuation_ends_a_sentence(last):
    assert ends(f"So it is{last}")
    assert not ends(f"So it is{last}x")


@pytest.mark.parametrize("text", ["f(x.", "a [b.", "{1.", 'He said "no.', "“Well.", "（一。"])
def test_open_brackets_and_quotes_keep_it_open(text):
    assert not ends(text)


@pytest.mark.parametrize("text", ["f(x).", "in (0, 1].", 'He said "no".', "1) first.", "“Well.”."])
def test_closed_ones_do_not(text):
    assert ends(text)


def test_a_point_between_digits_ends_no_sentence():
    two = [ord(c) for c in "It is 2."]
    assert not spelled().ends(two, ord("4"))
    assert spelled().ends(two, ord(" "))
    assert spelled().ends(two, None)
    assert spelled().ends([ord(c) for c in "It is x."], ord("4"))
    text = [ord(c) for c in "It is 2.4 of 3. So"]
    assert spelled().starts(text) == [0] * 15 + [15] * 3
    assert spelled().end(text, 0, 2) == 15


def test_a_generation_goes_on_behind_a_digit_and_a_full_stop():
    check = spelled().check(start=0, position=6)
    stopped = [end for end in range(7, 19) if check([ord(c) for c in "It is 2.4 of 3. So"[:end]])]
    assert stopped[0] == 16  # " " shows that the sentence ended


def test_a_full_stop_before_the_position_is_the_other_draft_s():
    """The LLM wrote 2.4, the SLM 2. and a word: its sentence is the one that goes on from there."""
    check = spelled().check(start=0, position=8)
    assert not check([ord(c) for c in "It is 2. "])
    assert check([ord(c) for c in "It is 2. So.\n"])


def test_a_long_token_does_not_end_a_sentence():
    words = {1: "v1.2.", 2: "ok.\n", 3: "Hm"}
    sentences = make(decode=lambda tokens: "".join(words[t] for t in tokens))
    assert not sentences.ends([3, 1], None)
    assert sentences.ends([3, 2], None)


def test_think_tokens_and_eos_end_a_sentence():
    sentences = make()
    for last in (THINK, CLOSE, END):
        assert sentences.ends([*ids("So ", "("), last], None)


def test_starts_names_the_sentence_of_each_token():
    tokens = ids("So ", "1", ".\n", "Now ", "2", ".\n", "</think>", "3", "<end>")
    assert make().starts(tokens) == [0, 0, 0, 3, 3, 3, 6, 7, 7]


def test_a_bracket_never_closed_does_not_swallow_the_rest():
    tokens = ids("(", "1", ".\n", "1", "1", ".\n", "2", ".\n")
    assert make(limit=4).starts(tokens) == [0, 0, 0, 0, 4, 4, 6, 6]


def test_end_is_behind_the_sentence_or_at_the_limit():
    tokens = ids("So ", "1", "+", "2", ".\n", "Now ", "<end>")
    assert make().end(tokens, 0, 1) == 5
    assert make(limit=2).end(tokens, 0, 1) == 3
    assert make().end(tokens, 5, 5) == 7


def test_check_looks_at_its_own_sentence_only():
    check = make().check(start=2, position=2)
    assert not check(ids("(", "1", "2"))
    assert check(ids("(", "1", "2", ".\n"))


def test_text_leaves_out_eos_and_keeps_think_tokens():
    assert make().text(ids("</think>", "1", "<end>")) == "</think>1"
