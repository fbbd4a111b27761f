import asyncio
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from r2r.config import JudgeConfig
from r2r.engines.base import Decoded
from r2r.errors import ConfigError
from r2r.labeling.judge import EngineJudge, HttpJudge, JudgeVerifier, parse
from r2r.labeling.verify import Comparison, EquivalenceVerifier

ROOT = Path(__file__).parents[2]
SHIPPED = OmegaConf.load(ROOT / "conf/labeler/equivalence.yaml")


def sentences(slm, llm):
    return Comparison("1+2?", "Well.\n", "", slm[:1], slm[1:], llm[:1], llm[1:])


def verify(verifier, *comparisons):
    return asyncio.run(verifier.verify(iter(comparisons)))


def equivalence(slm, llm):
    verifier = EquivalenceVerifier(synonyms=SHIPPED.synonyms, ignored=SHIPPED.ignored)
    return verify(verifier, sentences(slm, llm)) == ["neutral"]


@pytest.mark.parametrize(
    ("slm", "llm"),
    [
        ("So 12+34=46.\n", "Now 12 plus 34 is 46.\n"),
        ("Then 12*3 makes 36.\n", "So 12 times 3=36.\n"),
        ("Answer B.", "Option B."),
        ("Choice B.\n", "Answer B."),
        ("Pick 12 (B).\n", "Take 12 (B).\n"),
        ("The answer is \\boxed{7}.", "Answer: \\boxed{7}."),
        ("The answer is \\boxed{7}", "the answer is  \\boxed{7}.\n"),
        ("So (2*x)*3=6*x.\n", "Thus (2*x)*3 is 6*x.\n"),
    ],
)
def test_wordings_of_the_same_are_neutral(slm, llm):
    assert equivalence(slm, llm)
    assert equivalence(llm, slm)


@pytest.mark.parametrize(
    ("slm", "llm"),
    [
        ("So 12+34=46.\n", "So 12+34=45.\n"),
        ("So 12+34=46.\n", "So 12-34=46.\n"),
        ("Answer B.", "Answer C."),
        ("Pick 12 (B).", "So 12 (B)."),
        ("So 1 2.", "So 12."),
        ("It is 3.5.", "It is 35."),
        ("</think>", "So 12+34=46.\n"),
        ("", "So 12+34=46.\n"),
    ],
)
def test_other_content_is_divergent(slm, llm):
    assert not equivalence(slm, llm)


def test_the_shipped_tables_fit_the_nano_problems(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments/nano"))
    import problems

    rng = random.Random(0)
    for _ in range(60):
        problem = problems.sample(rng, "lm", (2, 4))
        one, two = (problems.solution(rng, problem).splitlines() for _ in range(2))
        assert len(one) == len(two)
        assert [line for line in zip(one, two, strict=True) if not equivalence(*line)] == []


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("neutral", "neutral"),
        ("**Divergent.**", "divergent"),
        ("Verdict: neutral", "neutral"),
        ("neutral or divergent", "unverified"),
        ("<think> Let me see", "unverified"),
        ("", "unverified"),
        ("neutrality", "unverified"),
    ],
)
def test_parse_reads_one_verdict_or_none(reply, verdict):
    assert parse(reply) == verdict


class Scripted:
    def __init__(self, *replies):
        self.replies, self.prompts = replies, []

    async def ask(self, prompts):
        self.prompts = list(prompts)
        return list(self.replies)


@pytest.mark.parametrize(
    ("replies", "verdict"),
    [
        (("neutral", "neutral"), "neutral"),
        (("divergent", "divergent"), "divergent"),
        (("neutral", "divergent"), "disputed"),
        (("divergent", "neutral"), "disputed"),
        (("neutral", "hm"), "unverified"),
        (("", "divergent"), "unverified"),
    ],
)
def test_both_orders_must_agree(replies, verdict):
    assert verify(JudgeVerifier(Scripted(*replies)), sentences("a", "b")) == [verdict]


def test_the_judge_sees_question_context_and_both_sentences_in_both_orders():
    judge = Scripted("neutral", "neutral")
    comparison = Comparison("How many?", "It was so.\n", "Then ", "12", "+3=15.", "", "")
    verify(JudgeVerifier(judge), comparison)
    first, second = judge.prompts
    for prompt in (first, second):
        assert "How many?" in prompt and "It was so.\n" in prompt
        assert "Then «12»+3=15." in prompt and "Then «(the solution ends here)»" in prompt
    assert first.index("«12»") < first.index("«(the")
    assert second.index("«(the") < second.index("«12»")


def test_text_with_braces_reaches_the_judge_as_it_is():
    judge = Scripted("neutral", "neutral")
    verify(JudgeVerifier(judge), Comparison("\\boxed{x}?", "{a}", "", "{b}", "", "{c}", ""))
    assert "\\boxed{x}?" in judge.prompts[0] and "{a}" in judge.prompts[0]


@pytest.fixture
def server():
    """A small OpenAI-compatible server: answers ``reply(prompt)``, keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.seen.append((self.path, self.headers.get("Authorization"), body))
            status, reply = state.reply(body["messages"][0]["content"])
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = SimpleNamespace(seen=[], reply=None, url=f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def said(text):
    return 200, {"choices": [{"message": {"content": text}}]}


def http_judge(url, **options):
    return JudgeVerifier(HttpJudge(JudgeConfig(url=url, model="judge", **options)))


def test_a_judge_behind_a_url(server, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server.reply = lambda prompt: said("divergent" if "9" in prompt else "Neutral.")
    verifier = http_judge(server.url, api_key_env="JUDGE_KEY", concurrency=3)
    pairs = [sentences(f"So {n}", f"Now {n}") for n in (7, 9, 8, 9, 7)]
    expected = ["neutral", "divergent", "neutral", "divergent", "neutral"]
    assert verify(verifier, *pairs) == expected
    path, key, body = server.seen[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0, 16)
    assert len(server.seen) == 10


def test_a_reply_without_content_is_no_verdict(server):
    server.reply = lambda prompt: said(None)
    assert verify(http_judge(server.url), sentences("a", "b")) == ["unverified"]


def test_a_server_that_is_busy_is_asked_again(server):
    answers = iter([(503, {}), said("neutral"), said("neutral")])
    server.reply = lambda prompt: next(answers)
    verdicts = verify(http_judge(server.url, concurrency=1, retries=1), sentences("a", "b"))
    assert verdicts == ["neutral"]


@pytest.mark.parametrize(
    ("status", "reply", "key"),
    [
        (500, {}, "labeler.judge.url"),
        (200, {"hello": 1}, "labeler.judge.url"),
        (200, [], "labeler.judge.url"),
        (404, {"error": "no such model"}, "labeler.judge.model"),
        (401, {}, "labeler.judge.api_key_env"),
    ],
)
def test_a_server_that_does_not_serve_is_the_users_to_mend(server, status, reply, key):
    server.reply = lambda prompt: (status, reply)
    with pytest.raises(ConfigError, match=key) as error:
        verify(http_judge(server.url, retries=0, concurrency=1), sentences("a", "b"))
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there(server):
    nowhere = server.url.rsplit(":", 1)[0] + ":9/v1"  # the discard port: nobody listens
    with pytest.raises(ConfigError, match=r"labeler\.judge\.url must be a server that answers"):
        verify(http_judge(nowhere, retries=0), sentences("a", "b"))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"url": None}, "labeler.judge.url"),
        ({"url": "localhost:1/v1"}, "labeler.judge.url"),
        ({"model": None}, "labeler.judge.model"),
        ({"concurrency": 0}, "labeler.judge.concurrency"),
        ({"api_key_env": "NO_SUCH_KEY"}, "labeler.judge.api_key_env"),
    ],
)
def test_settings_are_checked_before_anything_is_asked(options, key, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=key):
        HttpJudge(JudgeConfig(**{"url": "http://127.0.0.1:1/v1", "model": "judge", **options}))


class Letters:
    """A tokenizer with a token for each letter."""

    def apply_chat_template(self, messages, **options):
        return f"[{messages[0]['content']}]"

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return SimpleNamespace(input_ids=[ord(c) for c in text])

    def decode(self, tokens, skip_special_tokens):
        return "".join(map(chr, tokens))


class Sessions:
    """Says neutral; knows how much of each text its session has not seen yet."""

    def __init__(self):
        self.texts, self.new = {}, []

    def new_session(self):
        self.texts[len(self.texts)] = []
        return len(self.texts) - 1

    def release(self, session):
        self.texts[session] = None

    async def decode(self, request):
        assert request.budget == 16 and request.prompt[0] == ord("[")
        kept = self.texts[request.session]
        pairs = zip(kept, request.prompt, strict=False)
        seen = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.new.append(len(request.prompt) - seen)
        await asyncio.sleep(0)
        self.texts[request.session] = request.prompt
        return Decoded([ord(c) for c in "neutral"], "eos")


def test_a_local_judge_answers_through_its_chat_template():
    verifier = JudgeVerifier(EngineJudge(Sessions(), Letters()))
    assert verify(verifier, sentences("a", "b")) == ["neutral"]


def test_a_local_judge_reads_what_the_mismatches_of_a_query_share_once():
    def drafts(context):
        return Comparison("How many? " * 40, context, "So ", "1", " in all.", "2", " in all.")

    engine = Sessions()
    judge = JudgeVerifier(EngineJudge(engine, Letters()))

    async def both():
        longer = "It is so. " * 30
        one = judge.verify([drafts(longer), drafts(longer * 2)])
        return await asyncio.gather(one, judge.verify([drafts("Else. ")]))

    asyncio.run(both())
    drafts_alone = (
        len("1» in all.\n\nDraft B goes on:\nSo «2» in all.\n\nReply with one word.") + 30
    )
    whole = [new for new in engine.new if new > 900]
    assert len(engine.new) == 6 and len(whole) == 2  # the first of each query
    others = sorted(new for new in engine.new if new <= 900)
    assert others[-1] < 300 + 100 + drafts_alone  # what was written between two mismatches
    assert others[:-1] == [others[0]] * 3 and others[0] <= drafts_alone
    assert set(engine.texts.values()) == {None}
