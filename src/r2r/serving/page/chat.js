// The chat: questions, the answers of the routed pair, and beside them the models' alone.

import { formatted, plain } from "/page/answer.js";
import { answered, offered } from "/page/server.js";
import { hide } from "/page/tip.js";

const $ = (id) => document.getElementById(id);
const NAMES = { slm: "SLM alone", routed: "Routed", llm: "LLM alone" };
const KEPT = "r2r-chat"; // in the tab's storage, over reloads
let model = null;
let running = null; // the AbortController of what is being written
let turns = []; // {question, answers: [{system, tokens, thought, finish, usage, seconds, error}]}

// Theme: the system's, until one is chosen here.
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => { document.documentElement.dataset.theme = theme; };
setTheme(localStorage.getItem("r2r-theme") ?? (dark.matches ? "dark" : "light"));
dark.addEventListener("change", () => {
  if (!localStorage.getItem("r2r-theme")) setTheme(dark.matches ? "dark" : "light");
});
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("r2r-theme", theme);
  setTheme(theme);
});

// What the server offers.

async function loadModel() {
  model = await offered();
  $("model").textContent = model.id;
  const slider = $("threshold");
  slider.max = model.max_threshold ?? Math.max(1, 2 * model.threshold);
  slider.value = model.page_threshold;
  showThreshold();
  $("compare-field").hidden = !(model.systems?.length > 1);
  $("one-turn").hidden = !model.one_turn;
  $("examples").replaceChildren(...(model.examples ?? []).map((question) => {
    const item = make("li"), button = make("button", "example", question);
    button.type = "button";
    button.addEventListener("click", () => ask(question));
    item.append(button);
    return item;
  }));
}

const showThreshold = () => {
  const threshold = Number($("threshold").value);
  $("threshold-value").textContent = threshold.toFixed(3);
  $("recall").hidden = !model.recalls;
  if (!model.recalls) return;
  const { recall, threshold: at } = model.recalls;
  const kept = Math.max(0, ...recall.filter((_, i) => at[i] >= threshold - 1e-9));
  $("recall").textContent =
    `The router hands the LLM ${Math.round(100 * kept)} of 100 tokens that decide (on validation labels).`;
};
$("threshold").addEventListener("input", showThreshold);
$("key").addEventListener("change", () => loadModel().catch(fail));

// Elements.

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function keepingEnd(change) {
  const chat = $("chat");
  const atEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 60;
  change();
  if (atEnd) chat.scrollTop = chat.scrollHeight;
}

function fail(error) {
  const note = make("p", "said failed", error.message);
  note.setAttribute("role", "alert");
  $("chat").append(note);
}

const count = (tokens) => {
  const llm = tokens.filter((token) => token.source === "llm").length;
  return { total: tokens.length, llm, share: tokens.length ? (100 * llm) / tokens.length : 0 };
};

function showFigures(answer) {
  const { total, share } = count(answer.tokens);
  $("share").textContent = total ? `${share.toFixed(1)} %` : "–";
  $("share-bar").style.width = `${share}%`;
  $("tokens").textContent = total;
  $("speed").textContent = answer.seconds > 0 ? (total / answer.seconds).toFixed(1) : "–";
  $("seconds").textContent = answer.seconds.toFixed(1);
}

// Params x tokens, in the words of the tables.
function cost(answer) {
  if (!answer.usage) return "";
  const billions = answer.usage.avg_params_b;
  const [value, unit] = billions >= 1 ? [billions, "B"] : billions >= 1e-3 ? [billions * 1e3, "M"] : [billions * 1e6, "K"];
  return `${value.toPrecision(3)}${unit} params a token`;
}

function relative(answer, answers) {
  const llm = answers.find((other) => other.system === "llm" && other.usage);
  if (!llm || !answer.usage || answer.system === "llm") return "";
  const of = (it) => it.usage.avg_params_b * it.tokens.length;
  return of(llm) ? `${(of(answer) / of(llm)).toFixed(2)}x the LLM’s cost` : "";
}

// An answer's box, drawn anew as tokens come.
function draw(answer, turn) {
  const box = answer.box;
  const head = make("p", "about");
  const { total, share } = count(answer.tokens);
  const told = [
    turn.answers.length > 1 ? NAMES[answer.system] : "",
    total ? `${total} tokens` : "", total ? `${share.toFixed(1)} % by the LLM` : "",
    answer.seconds ? `${answer.seconds.toFixed(1)} s` : "", cost(answer), relative(answer, turn.answers),
  ];
  head.textContent = told.filter(Boolean).join(" · ");
  const show = $("plain").checked ? plain : formatted;
  const written = make("div", "written");
  written.tabIndex = 0;
  written.setAttribute("role", "group");
  written.setAttribute("aria-label", `${NAMES[answer.system]}: arrow keys walk over the tokens, with shift over the LLM’s`);
  const thought = answer.tokens.slice(0, answer.thought).filter((token) => !/^\s*<\/?think\w*>\s*$/.test(token.text));
  const said = answer.tokens.slice(answer.thought);
  if (thought.length) {
    const fold = make("details", "thinking");
    fold.open = answer.unfolded ?? !said.length; // open while it thinks, unless chosen otherwise
    const { share: by } = count(thought);
    const summary = make("summary", "", `Thinking: ${thought.length} tokens, ${by.toFixed(1)} % by the LLM`);
    summary.addEventListener("click", () => { answer.unfolded = !fold.open; });
    fold.append(summary, show(thought));
    written.append(fold);
  }
  if (said.length) written.append(show(said));
  const parts = head.textContent ? [head, written] : [written];
  if (answer.finish === "length") parts.push(make("p", "note", "ended at the token limit"));
  if (answer.stopped) parts.push(make("p", "note", "stopped; this turn is not remembered"));
  if (answer.error) {
    const alert = make("p", "failed", answer.error);
    alert.setAttribute("role", "alert");
    parts.push(alert);
  }
  if (answer.finish || answer.error || answer.stopped) parts.push(actions(answer, turn));
  if (answer.tokens.some((token) => token.cut_text)) $("cuts-field").hidden = false;
  keepingEnd(() => {
    box.replaceChildren(...parts);
    box.classList.toggle("empty", !total && !answer.error);
    for (const wide of box.querySelectorAll("pre, table, .katex-display")) {
      if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0; // to be scrolled with the arrow keys
    }
  });
}

function actions(answer, turn) {
  const bar = make("p", "actions");
  const copy = make("button", "", "Copy"), again = make("button", "", "Retry");
  copy.type = again.type = "button";
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(answer.tokens.map((token) => token.text).join(""));
    copy.textContent = "Copied";
  });
  again.addEventListener("click", () => working((signal) => write(answer, turn, signal)));
  bar.append(...(answer.tokens.length && navigator.clipboard ? [copy] : []), again);
  return bar;
}

function place(turn) {
  $("hint").hidden = true;
  const article = make("article", "turn");
  const boxes = make("div", turn.answers.length > 1 ? "beside" : "");
  for (const answer of turn.answers) {
    answer.box = make("div", "said assistant empty");
    boxes.append(answer.box);
  }
  article.append(make("p", "said user", turn.question), boxes);
  $("chat").append(article);
  $("chat").scrollTop = $("chat").scrollHeight;
}

// Asking.

function messages(turn) {
  const before = model.one_turn ? [] : turns.slice(0, turns.indexOf(turn));
  const told = before.flatMap(({ question, answers }) => {
    const given = answers.find((answer) => answer.system === "routed");
    if (!given?.finish) return [];
    const content = given.tokens.slice(given.thought).map((token) => token.text).join("");
    return [{ role: "user", content: question }, { role: "assistant", content }];
  });
  return [...told, { role: "user", content: turn.question }];
}

// How many of the tokens so far belong to the thinking: all, until the first of the content comes.
function thoughtUpto({ tokens, thought }, { reasoning, content }) {
  if (!reasoning && !thought) return 0;
  let at = tokens.length;
  for (let left = content.length; left > 0 && at > 0;) left -= tokens[--at].text.length;
  return at;
}

async function write(answer, turn, signal) {
  Object.assign(answer, { tokens: [], thought: 0, finish: null, usage: null, seconds: 0, error: null, stopped: false, saying: false });
  draw(answer, turn);
  const body = { model: model.id, messages: messages(turn), temperature: Number($("temperature").value) };
  if (answer.system === "routed") body.threshold = Number($("threshold").value);
  else body.system = answer.system;
  if ($("max-tokens").value) body.max_tokens = Number($("max-tokens").value);
  const began = performance.now();
  let asked = 0; // a drawing that comes with the next frame
  try {
    for await (const news of answered(body, signal)) {
      answer.tokens.push(...news.tokens);
      if (!answer.saying) answer.thought = thoughtUpto(answer, news);
      answer.saying ||= news.content !== "";
      if (news.tokens.length) answer.seconds = (performance.now() - began) / 1000;
      answer.finish = news.finish ?? answer.finish;
      answer.usage = news.usage ?? answer.usage;
      if (answer.system === "routed") showFigures(answer);
      asked ||= requestAnimationFrame(() => { asked = 0; draw(answer, turn); });
    }
  } catch (error) {
    if (error.name === "AbortError") answer.stopped = true;
    else answer.error = error.message;
  }
  cancelAnimationFrame(asked);
  for (const other of turn.answers) if (other.tokens) draw(other, turn);
  keep();
}

async function ask(question) {
  if (running) return;
  const systems = $("compare").checked ? model.systems : ["routed"];
  const turn = { question, answers: systems.map((system) => ({ system })) };
  turns.push(turn);
  place(turn);
  await working(async (signal) => {
    for (const answer of turn.answers) { // one after the other: their times can be compared
      if (signal.aborted) break;
      await write(answer, turn, signal);
    }
  });
}

async function working(work) {
  if (running) return;
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  await work(running.signal);
  running = null;
  $("send").hidden = false;
  $("stop").hidden = true;
  $("news").textContent = "The answer is there.";
  $("question").focus();
}

// Over reloads.

function keep() {
  const told = turns.map(({ question, answers }) => ({ question, answers: answers.map(({ box, ...rest }) => rest) }));
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(told));
  } catch { // too long for the tab's storage: then it is not kept
    sessionStorage.removeItem(KEPT);
  }
}

function restore() {
  turns = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  for (const turn of turns) {
    turn.answers = turn.answers.filter((answer) => answer.tokens);
    place(turn);
    for (const answer of turn.answers) draw(answer, turn);
  }
}

// Input.

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  try {
    if (!model) await loadModel();
  } catch (error) {
    return fail(error);
  }
  $("question").value = "";
  resize();
  await ask(question);
});
$("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  running?.abort();
  hide();
});
$("clear").addEventListener("click", () => {
  running?.abort();
  turns = [];
  keep();
  $("chat").replaceChildren($("hint"));
  $("hint").hidden = false;
  $("question").focus();
});
$("plain").addEventListener("change", () => {
  for (const turn of turns) for (const answer of turn.answers) if (answer.tokens) draw(answer, turn);
});
$("cuts").addEventListener("change", () => keepingEnd(() => $("chat").classList.toggle("cuts", $("cuts").checked)));

const resize = () => {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
};
$("question").addEventListener("input", resize);
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});

if (innerWidth < 760) $("settings").open = false;
loadModel().then(restore).catch((error) => { if ($("key-field").hidden) fail(error); });
