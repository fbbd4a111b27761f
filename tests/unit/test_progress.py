"""What a long stage tells of its work while it works."""

import io
import json
import time

import pytest
from rich.console import Console

from r2r.eta import Pace
from r2r.progress import Progress
from r2r.stages import watch as watching
from r2r.stages.watch import span, watch


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def begun(total=10, width=2):
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(total, width=width)
    return progress, clock


def test_counts_items_tokens_and_the_time_that_any_was_under_way():
    progress, clock = begun()
    clock.now += 50  # loading
    progress.begin("a", 30)
    progress.begin("b", 30)
    for _ in range(10):
        progress.move("a", 2)
        progress.move("b")
        clock.now += 1
    progress.end("a")
    facts = progress.facts()
    assert (facts.finished, facts.total, facts.under_way) == (1, 10, {"b": 10})
    assert (facts.tokens, facts.made) == (30, 30)
    assert facts.tokens_per_s == 3 and facts.elapsed_s == 10


def test_what_earlier_runs_kept_is_done_but_in_no_rate():
    progress, clock = begun()
    for _ in range(8):
        progress.keep(100)
    assert progress.facts().eta_s is None  # nothing measured yet
    progress.begin(8)
    for _ in range(2):  # the first prompts are read, then it is measured
        progress.move(8, 25)
        clock.now += 2.5
        facts = progress.facts()
    facts = progress.facts()
    assert (facts.finished, facts.kept, facts.tokens, facts.made) == (8, 8, 850, 50)
    assert facts.tokens_per_s == 10
    assert facts.expected == pytest.approx(1000, rel=0.1)
    assert facts.eta_s == pytest.approx(15, rel=0.5)


def test_before_the_first_is_finished_others_like_it_tell_how_long_it_will_be():
    progress, clock = begun()
    progress.begin("a")
    for _ in range(10):
        progress.move("a", 5)
        clock.now += 1
    assert progress.facts().eta_s is None
    progress.expect(10, width=1, like=[100] * 30)
    progress.begin("a")
    for _ in range(2):
        progress.move("a", 25)
        clock.now += 5
        facts = progress.facts()
    facts = progress.facts()
    assert facts.expected == pytest.approx(1000, rel=0.05)
    assert facts.eta_s == pytest.approx(190, rel=0.05)
    progress.expect(10, width=1)
    assert not len(progress.like)


def test_while_the_first_prompts_are_read_the_pace_is_that_of_steps_timed_before():
    progress, clock = begun(total=20, width=4)
    progress.expect(20, width=4, like=[100] * 30)
    for item in range(4):
        progress.begin(item)
    clock.now += 30
    progress.move(0)
    assert progress.facts().eta_s is None
    progress.timed, progress.first_s = Pace(0.4, 0.15), 60.0  # a step of four takes a second
    assert progress.facts().eta_s == pytest.approx(500 + 30, rel=0.1)
    clock.now += 30
    assert progress.facts().eta_s == pytest.approx(500, rel=0.1)
    for _ in range(240):
        clock.now += 2  # twice as slow
        for item in list(progress.under_way):
            progress.move(item)
            if progress.under_way[item].tokens >= 100:
                progress.end(item)
                progress.begin(progress.made)
        progress.facts()
    facts = progress.facts()
    assert facts.eta_s == pytest.approx(2 * (500 - 240), rel=0.1)
    assert facts.tokens_per_s == pytest.approx(facts.made / 540)
    progress.expect(20, width=4, unit="replies", like=[1])
    progress.begin(0)
    assert progress.facts().eta_s is None  # a judge's replies take another time than tokens


def test_what_others_had_written_side_by_side_takes_fewer_steps():
    etas = []
    for serial in (1.0, 0.25):
        progress, clock = begun(total=4, width=4)
        progress.expect(4, width=4, like=[400] * 30, serial=serial)
        for item in range(4):
            progress.begin(item)
        for _ in range(40):  # a step's time is its own
            clock.now += 1
            for item in range(4):
                progress.move(item)
            facts = progress.facts()
        etas.append(facts.eta_s)
    assert etas[1] < 0.9 * etas[0]


def with_split(total, times, many=60):
    """So many finished items, whose parts came to ``times`` what they had said."""
    progress, clock = begun(total, width=2)
    for item in range(many):
        progress.begin(item)
        progress.move(item, 10)
        progress.split(item, [])
        progress.split(item, [5] * (1 + item % 4))
        progress.move(item, times * 5 * (1 + item % 4))
        clock.now += 1
        progress.end(item)
    return progress, clock


def test_where_the_parts_of_an_item_are_known_they_are_as_long_as_those_of_others():
    progress, clock = with_split(61, 1)
    before = progress.facts().tokens
    progress.begin("c")
    progress.move("c", 10)
    progress.split("c", [5] * 400)
    progress.move("c", 100)
    clock.now += 1
    facts = progress.facts()
    assert facts.expected == pytest.approx(before + 10 + 2000, rel=0.05)
    speed = facts.made / 61  # as long as one is under way there is no other
    assert facts.eta_s == pytest.approx(1900 / speed, rel=0.5)


def test_parts_come_to_as_much_more_than_they_say_as_others_did():
    progress, clock = with_split(61, 2)
    before = progress.facts().tokens
    progress.begin("long")
    progress.move("long", 10)
    progress.split("long", [300, 100])
    clock.now += 1
    assert progress.facts().expected == pytest.approx(before + 10 + 800, rel=0.1)


def test_before_any_is_finished_parts_tell_how_long_they_are_about():
    progress, clock = begun(total=2, width=2)
    for item in ("a", "b"):
        progress.begin(item)
        progress.move(item, 10)
        clock.now += 1
        assert progress.facts().eta_s is None
    for item in ("a", "b"):
        progress.split(item, [50, 50])
    assert progress.facts().expected == pytest.approx(220, rel=0.5)


@pytest.mark.parametrize("seen", [1, 3, 60])
def test_parts_that_came_to_more_than_they_had_said_are_not_done(seen):
    progress, clock = with_split(seen + 1, 1, seen)
    before = progress.facts().tokens
    progress.begin("under way")
    progress.split("under way", [100])
    for made in (50, 120, 200, 500):
        progress.move("under way", made - progress.under_way["under way"].tokens)
        clock.now += 1
        facts = progress.facts()
        assert facts.expected - before > 1.05 * made and facts.eta_s > 0


def test_what_was_written_has_to_be_read_again_before_an_item_ends():
    progress, clock = begun(total=4, width=1)
    progress.read_s = 0.5
    for item in ("a", "b"):
        progress.begin(item, 10)
        progress.move(item, 10)
        clock.now += 10
        if item == "a":
            clock.now += 5
            progress.split(item, [])
            progress.end(item)
    # 5 s to read b, and 15 s each for c and d.
    assert progress.facts().eta_s == pytest.approx(35, rel=0.1)
    clock.now += 5
    progress.split("b", [])
    assert progress.facts().eta_s == pytest.approx(30, rel=0.1)


def test_nothing_is_foretold_before_an_item_has_ended():
    progress, clock = begun()
    assert progress.facts().eta_s is None
    progress.begin(0)
    progress.move(0, 5)
    clock.now += 1
    facts = progress.facts()
    assert facts.eta_s is None and facts.expected is None and facts.tokens_per_s == 5


def test_the_estimate_moves_while_no_item_ends():
    progress, clock = begun(total=4, width=1)
    progress.begin(0)
    progress.move(0, 10)
    clock.now += 10
    progress.end(0)
    progress.begin(1)
    told = []
    for _ in range(3):
        progress.move(1, 100)
        clock.now += 100
        told.append(progress.facts().expected)
    assert told == sorted(told) and told[0] < told[-1]


def test_all_kept_is_nothing_left():
    progress, _ = begun(total=2)
    progress.keep(5)
    progress.keep(6)
    assert progress.facts().eta_s == 0 and progress.facts().expected == 11


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "?"), (5, "0:05"), (65.4, "1:05"), (3723, "1:02:03"), (90_061, "1 d 1:01:01")],
)
def test_spans(seconds, said):
    assert span(seconds) == said


def screen(monkeypatch, terminal, width=80):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False)
    for module in (watching, watching.say.__globals__):
        if isinstance(module, dict):
            monkeypatch.setitem(module, "console", console)
        else:
            monkeypatch.setattr(module, "console", console)
    return out


def filled(progress):
    progress.doing = ""
    progress.expect(540, width=64)
    for item in range(64):
        progress.begin(item, 256)
        progress.move(item, 30 + item)
    for item in range(40):
        progress.end(item)
    progress.note = "LLM 9.4%"


@pytest.mark.parametrize(("width", "lines"), [(80, 2), (120, 1)])
def test_all_that_is_told_fits_the_terminal(width, lines):
    clock = Clock()
    progress = Progress(clock=clock)
    shown = watching._Screen("5/6 evaluate speculative", progress)
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    console.print(shown)
    filled(progress)
    clock.now += 1
    shown.facts = progress.facts()
    with console.capture() as captured:
        console.print(shown)
    said = captured.get().rstrip("\n").split("\n")
    assert len(said) == lines and all(len(line) <= width for line in said)
    for part in ("40 of 540", "24 under way", " left", "3,936 of about", "3,936/s", "LLM 9.4%"):
        assert part in captured.get()


def test_a_log_gets_a_line_a_minute_and_the_folder_a_file(monkeypatch, tmp_path):
    out = screen(monkeypatch, terminal=False, width=200)
    for name, seconds in (("EACH_S", 0.01), ("FILE_S", 0.02), ("LINE_S", 0.2)):
        monkeypatch.setattr(watching, name, seconds)
    file = tmp_path / "progress.json"
    with watch("evaluate", ["evaluate"], "slm", folder=tmp_path) as progress:
        filled(progress)
        until = time.monotonic() + 10
        while out.getvalue().count("\n") < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        found = json.loads(file.read_text())
    assert not file.exists()
    assert "slm: 40 of 540, 24 under way, " in out.getvalue()
    assert (found["stage"], found["what"]) == ("evaluate", "slm")
    assert found["items"] == {"total": 540, "finished": 40, "kept": 0, "under_way": 24}
    assert found["under_way"]["63"] == 93
    assert found["tokens"]["done"] == found["tokens"]["made"] == sum(range(30, 94))


def test_a_terminal_shows_it_at_once_and_while_models_load(monkeypatch):
    out = screen(monkeypatch, terminal=True)
    with watch("label", ["label", "train"]) as progress:
        progress.doing = "loading the SLM"
        until = time.monotonic() + 10
        while "loading the SLM" not in out.getvalue():
            assert time.monotonic() < until
            time.sleep(0.01)
    assert "1/2 label" in out.getvalue()


def test_it_ends_with_what_was_raised(tmp_path):
    with pytest.raises(KeyError), watch("label", [], folder=tmp_path):
        raise KeyError("x")
    assert not list(tmp_path.iterdir())
