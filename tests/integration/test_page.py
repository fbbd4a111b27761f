"""The page at /, in headless Chromium."""

import shutil
from pathlib import Path

import pytest
from live import Script, at_rest, live, offer, until
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from transformers import AutoTokenizer

from r2r.costs import Params

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
TEXT = "<img src=x onerror=\"document.title='owned'\">\nSo é 1+2=3, 5*x*y."
MARKDOWN = (
    "So **1**:\n\n- one\n- two\n\n| n |\n|---|\n| 4 |\n\n"
    "```python\nx = '$a$'\n```\n\nAnswer: \\boxed{7}."
)

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def script():
    return Script(AutoTokenizer.from_pretrained(NANO), TEXT)


@pytest.fixture
def url(script):
    with live(*offer(script)) as (address, _):
        yield address
        script.go.set()


def resize(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def opened(browser, url):
    browser.get(url)
    browser.execute_script("sessionStorage.clear(); localStorage.clear()")
    browser.refresh()
    until(lambda: one(browser, "#model").text == "toy")


def ask(browser, text="hi"):
    one(browser, "#question").send_keys(text + "\n")


def done(browser):
    return one(browser, "#send").is_displayed()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_shows_who_wrote_what(browser, url, width, theme):
    resize(browser, width)
    opened(browser, url)
    if one(browser, "html").get_attribute("data-theme") != theme:
        one(browser, "#theme").click()
    ask(browser)
    until(lambda: done(browser))
    one(browser, "#settings").get_attribute("open") or one(browser, "#settings summary").click()
    one(browser, "#plain").click()
    spans = browser.find_elements(By.CSS_SELECTOR, "#chat .assistant .token")
    assert "".join(span.get_attribute("textContent") for span in spans) == TEXT
    kinds = {span.get_attribute("class") for span in spans}
    assert kinds == {"token slm", "token llm cut"}
    colours = {
        span.get_attribute("class"): span.value_of_css_property("background-color")
        for span in spans
    }
    assert len(set(colours.values())) == 2
    page_width, shown = browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert page_width <= shown == width
    visible = ("#question", "#send", "#settings", "#share", "#chat .user")
    assert all(one(browser, selector).is_displayed() for selector in visible)


def test_an_answer_is_formatted_and_its_pieces_keep_their_colours(browser):
    script = Script(AutoTokenizer.from_pretrained(NANO), MARKDOWN)
    with live(*offer(script)) as (url, _):
        resize(browser, 1280)
        opened(browser, url)
        ask(browser)
        until(lambda: done(browser))
        written = one(browser, "#chat .assistant .formatted")
        kinds = {tag: [e.text for e in written.find_elements(By.TAG_NAME, tag)]
                 for tag in ("strong", "li", "pre")}  # fmt: skip
        assert kinds == {"strong": ["1"], "li": ["one", "two"], "pre": ["x = '$a$'"]}
        assert len(written.find_elements(By.CSS_SELECTOR, ".token .katex")) == 1
        loose = browser.execute_script(
            "const found = []; const walk = document.createTreeWalker(arguments[0], 4);"
            "while (walk.nextNode()) if (walk.currentNode.data.trim()"
            " && !walk.currentNode.parentElement.closest('.token'))"
            " found.push(walk.currentNode.data);"
            "return found", written)  # fmt: skip
        assert loose == []  # every character is some token's
        shown = "x = '$a$'"
        upto = MARKDOWN.index(shown)
        owners, end = [], 0  # of each token of the code: whose it is, as Script has it
        ids = script.tokenizer(MARKDOWN, add_special_tokens=False).input_ids
        for n, token in enumerate(ids):
            begin, end = end, end + len(script.tokenizer.decode([token]))
            mine = range(max(begin, upto), min(end, upto + len(shown)))
            owners += ["slm" if n % 4 else "llm"] * len(mine)
        spans = written.find_elements(By.CSS_SELECTOR, "pre .token")
        coloured = [(s.get_attribute("class").split()[1], s.get_attribute("textContent"))
                    for s in spans]  # fmt: skip
        assert [kind for kind, text in coloured for _ in text.rstrip("\n")] == owners


def test_arrow_keys_walk_over_the_tokens(browser, url):
    resize(browser, 1280)
    opened(browser, url)
    ask(browser)
    until(lambda: done(browser))
    written, tip = one(browser, "#chat .written"), one(browser, "#tip")
    written.send_keys(Keys.ARROW_RIGHT)
    until(tip.is_displayed)
    first = tip.text
    written.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert tip.text != first and "The LLM wrote this" in tip.text
    written.send_keys(Keys.NULL + Keys.ESCAPE)
    assert not tip.is_displayed()


def test_systems_side_by_side_examples_and_a_reload(browser, script):
    beside = {"slm": Params(1.0, 1.0), "llm": Params(10.0, 10.0)}
    served, worker = offer(script, beside=beside, examples=["How many?"], one_turn=True)
    worker.beside = dict.fromkeys(beside, script)
    with live(served, worker) as (url, _):
        resize(browser, 1280)
        opened(browser, url)
        assert "single questions" in one(browser, "#one-turn").text
        one(browser, "#compare").click()
        one(browser, ".example").click()
        until(lambda: done(browser))
        told = [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".beside .about")]
        assert [text.split(" · ")[0] for text in told] == ["SLM alone", "Routed", "LLM alone"]
        assert "the LLM’s cost" in told[0] and "params a token" in told[2]
        browser.refresh()
        until(lambda: browser.find_elements(By.CSS_SELECTOR, ".beside .about"))
        assert [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".beside .about")] == told
        ask(browser, "again")
        until(lambda: done(browser))
        assert "How many" not in script.tokenizer.decode(script.asked[-1].tokens)
        one(browser, "#clear").click()
        browser.refresh()
        until(lambda: one(browser, "#hint").is_displayed())


def test_the_threshold_says_what_it_did_on_validation_labels(browser, script):
    recalls = {"recall": [0.5, 0.9, 1.0], "threshold": [0.8, 0.4, 0.1]}
    with live(*offer(script, page_threshold=0.4, recalls=recalls)) as (url, _):
        resize(browser, 1280)
        opened(browser, url)
        assert one(browser, "#threshold-value").text == "0.400"
        assert "90 of 100" in one(browser, "#recall").text
        ask(browser)
        until(lambda: done(browser))
        assert script.asked[-1].threshold == 0.4
        one(browser, "#threshold").send_keys(Keys.END)
        assert "the LLM 0 of 100" in one(browser, "#recall").text


def test_output_is_text_and_nothing_comes_from_elsewhere(browser, url):
    resize(browser, 1280)
    browser.get_log("browser")
    opened(browser, url)
    ask(browser)
    until(lambda: done(browser))
    assert "owned" not in browser.title
    assert one(browser, "#chat .formatted").text == TEXT
    assert not browser.find_elements(By.CSS_SELECTOR, "#chat img")
    told = [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"]
    assert told == []  # no script error, nothing blocked or missing
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert loaded and all(address.startswith(url) for address in loaded)


def test_score_and_draft_on_hover(browser, url):
    resize(browser, 1280)
    opened(browser, url)
    ask(browser)
    until(lambda: done(browser))
    tip = one(browser, "#tip")
    ActionChains(browser).move_to_element(one(browser, "#chat .llm")).perform()
    until(tip.is_displayed)
    assert "The LLM wrote this" in tip.text and "score 0.7500" in tip.text
    assert "the SLM wanted" in tip.text and "cut behind it" in tip.text
    ActionChains(browser).move_to_element(one(browser, "#chat .assistant .slm")).perform()
    until(lambda: "The SLM wrote this" in tip.text)
    assert "score 0.2500" in tip.text and "wanted" not in tip.text
    ActionChains(browser).move_to_element(one(browser, "h1")).perform()
    until(lambda: not tip.is_displayed())


def test_what_was_cut_is_shown_when_asked(browser, url):
    resize(browser, 1280)
    opened(browser, url)
    assert not one(browser, "#cuts").is_displayed()
    ask(browser)
    until(lambda: done(browser))

    def before() -> str:
        return browser.execute_script(
            "return getComputedStyle(document.querySelector('#chat .cut'), '::before').content"
        )

    assert before() == "none"
    one(browser, "#cuts").click()
    lost = one(browser, "#chat .cut").get_attribute("data-cut")
    assert len(lost) > 1 and before() == f'"{lost}"'
    assert one(browser, "#chat .formatted").text == TEXT  # no part of the answer
    one(browser, "#cuts").click()
    assert before() == "none"


def test_figures_and_the_threshold(browser, url, script):
    resize(browser, 1280)
    opened(browser, url)
    assert one(browser, "#threshold-value").text == "0.500"
    browser.execute_script(
        "const slider = document.getElementById('threshold'); slider.value = 0.125;"
        "slider.dispatchEvent(new Event('input'))"
    )
    assert one(browser, "#threshold-value").text == "0.125"
    ask(browser)
    until(lambda: done(browser))
    assert script.asked[-1].threshold == 0.125
    count = len(script.tokenizer(TEXT, add_special_tokens=False).input_ids)
    assert one(browser, "#tokens").text == str(count)
    assert one(browser, "#share").text == f"{100 * -(-count // 4) / count:.1f} %"
    assert float(one(browser, "#speed").text) > 0


def test_stopping_frees_the_work_and_an_error_is_shown(browser, url, script):
    resize(browser, 1280)
    opened(browser, url)
    ask(browser, "wait")
    until(lambda: script.engine.held == 1)
    until(lambda: one(browser, "#stop").is_displayed())
    one(browser, "#chat").send_keys(Keys.ESCAPE)
    until(lambda: done(browser) and at_rest(url))
    ask(browser, "fail")
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "[role=alert]"))
    assert "broken on purpose" in one(browser, "[role=alert]").text
    alerts = len(script.asked)
    retry = browser.find_elements(By.CSS_SELECTOR, ".actions button")[-1]
    assert retry.text == "Retry"
    retry.click()
    until(lambda: len(script.asked) == alerts + 1 and done(browser))
    one(browser, "#clear").click()
    assert one(browser, "#hint").is_displayed()


def test_a_key_is_asked_for(browser, script):
    with live(*offer(script, api_key="secret")) as (url, _):
        resize(browser, 400)
        browser.get(url)
        until(lambda: one(browser, "#key").is_displayed())
        one(browser, "#key").send_keys("secret\n")
        until(lambda: one(browser, "#model").text == "toy")
        ask(browser)
        until(lambda: done(browser) and browser.find_elements(By.CSS_SELECTOR, ".assistant .llm"))
