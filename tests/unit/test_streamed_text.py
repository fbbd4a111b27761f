"""Streamed text: whole characters, no part of a stop string, and in sum the text of the trace."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from r2r.policies.stopping import StopStrings, cut
from r2r.serving.text import StreamedText
from r2r.trace import Step

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
TOKENIZER = AutoTokenizer.from_pretrained(NANO)


def streamed(text, stop=()):
    """What is given out after each token, and at the end; the generator ends as engines do."""
    tokens = TOKENIZER(text, add_special_tokens=False).input_ids
    check = StopStrings(TOKENIZER, stop, "") if stop else None
    stream, given, written = StreamedText(TOKENIZER, stop), [], []
    for token in tokens:
        written.append(token)
        given.append(stream.add(Step(token, "slm")))
        if check and check(written):
            break
    given.append(stream.end())
    return given, written


def text_of(given):
    return "".join(piece.text for pieces in given for piece in pieces)


def test_a_character_comes_whole_with_its_last_token():
    given, written = streamed("a😀b")
    assert len(written) > 4  # the nano tokenizer writes it as bytes
    assert [piece.text for pieces in given for piece in pieces if piece.text] == ["a", "😀", "b"]
    assert all("\ufffd" not in piece.text for pieces in given for piece in pieces)


def test_a_stop_string_never_shows_and_what_only_looks_like_one_does():
    given, _ = streamed("Now 1+2=3. So on", ("=4", "3. So"))
    assert text_of(given) == "Now 1+2="
    given, _ = streamed("Now 1+2=3.", ("=34",))
    assert text_of(given) == "Now 1+2=3."


def test_an_answer_that_ends_within_a_character():
    tokens = TOKENIZER("é", add_special_tokens=False).input_ids
    stream = StreamedText(TOKENIZER, ())
    assert stream.add(Step(tokens[0], "slm")) == []
    assert [piece.text for piece in stream.end()] == [TOKENIZER.decode(tokens[:1])]


def test_bytes_that_never_make_a_character_are_not_held_for_ever():
    token = TOKENIZER("é", add_special_tokens=False).input_ids[0]
    stream = StreamedText(TOKENIZER, ())
    given = [stream.add(Step(token, "slm")) for _ in range(100)]
    assert sum(map(len, given)) > 80


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("ab12 .=é😀数\n"), max_size=30),
    st.lists(st.text(st.sampled_from("ab12 .=é😀"), min_size=1, max_size=4), max_size=3),
)
def test_the_stream_is_the_text_of_the_trace(text, stops):
    stop = tuple(stops)
    given, written = streamed(text, stop)
    whole = cut(TOKENIZER.decode(written, skip_special_tokens=True), stop, "")
    assert text_of(given) == whole
    assert [piece.step.token for pieces in given for piece in pieces] == written
    for end in range(len(given)):  # nothing given out had to be taken back
        assert whole.startswith(text_of(given[:end]))
