"use strict";
// The chat: streams /v1/chat/completions with its trace. Model output is only ever set as text.

const $ = (id) => document.getElementById(id);
const history = [];
let model = null;
let running = null; // the AbortController of the answer being written

// Theme: the system's, until one is chosen here.
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => { document.documentElement.dataset.theme = theme; };
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
$("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// The server.

function request(path, options = {}) {
  const key = $("key").value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  return fetch(path, { ...options, headers: { ...headers, ...options.headers } });
}

async function refusal(response) {
  if (response.status === 401) $("key-field").hidden = false;
  const body = await response.json().catch(() => null);
  return new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

async function loadModel() {
  const response = await request("/v1/models");
  if (!response.ok) throw await refusal(response);
  model = (await response.json()).data[0];
  $("model").textContent = model.id;
  const slider = $("threshold");
  slider.max = model.max_threshold ?? Math.max(1, 2 * model.threshold);
  slider.value = model.threshold;
  showThreshold();
}

const showThreshold = () => {
  $("threshold-value").textContent = Number($("threshold").value).toFixed(3);
};
$("threshold").addEventListener("input", showThreshold);
$("key").addEventListener("change", () => loadModel().catch(fail));

// Yields the JSON of each server-sent event.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      yield JSON.parse(line.slice(6));
    }
  }
}

// The chat.

function bubble(kind, text) {
  $("hint").hidden = true;
  const element = document.createElement("div");
  element.className = kind;
  element.textContent = text;
  $("chat").append(element);
  $("chat").scrollTop = $("chat").scrollHeight;
  return element;
}

function fail(error) {
  bubble("said failed", error.message).setAttribute("role", "alert");
}

function append(element, trace) {
  const chat = $("chat");
  const atEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 40;
  for (const token of trace) {
    if (!token.text) continue; // special tokens, and parts of a character
    const span = document.createElement("span");
    span.className = `token ${token.source}`;
    span.textContent = token.text;
    span.told = token;
    element.append(span);
  }
  if (atEnd) chat.scrollTop = chat.scrollHeight;
}

function showFigures(written, began) {
  const seconds = (performance.now() - began) / 1000;
  const total = written.slm + written.llm;
  const share = total ? (100 * written.llm) / total : 0;
  $("share").textContent = total ? `${share.toFixed(1)} %` : "–";
  $("share-bar").style.width = `${share}%`;
  $("tokens").textContent = total;
  $("speed").textContent = seconds > 0 ? (total / seconds).toFixed(1) : "–";
  $("seconds").textContent = seconds.toFixed(1);
}

async function answer(question) {
  if (!model) await loadModel();
  bubble("said user", question);
  history.push({ role: "user", content: question });
  const body = {
    model: model.id,
    messages: history,
    stream: true,
    return_trace: true,
    threshold: Number($("threshold").value),
    temperature: Number($("temperature").value),
  };
  if ($("max-tokens").value) body.max_tokens = Number($("max-tokens").value);
  const element = bubble("said assistant", "");
  const written = { slm: 0, llm: 0 };
  const began = performance.now();
  let content = ""; // what is remembered: without the reasoning
  try {
    const response = await request("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: running.signal,
    });
    if (!response.ok) throw await refusal(response);
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const [choice] = chunk.choices;
      const trace = choice.trace ?? [];
      append(element, trace);
      for (const token of trace) {
        written[token.source] += 1;
      }
      content += choice.delta.content ?? "";
      if (trace.length) showFigures(written, began);
      if (choice.finish_reason === "length") bubble("note", "ended at the token limit");
    }
    history.push({ role: "assistant", content });
  } catch (error) {
    history.pop();
    if (!element.hasChildNodes()) element.remove();
    if (error.name === "AbortError") bubble("note", "stopped; this turn is not remembered");
    else fail(error);
  }
}

function working(controller) {
  running = controller;
  $("send").hidden = controller !== null;
  $("stop").hidden = controller === null;
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  $("question").value = "";
  resize();
  working(new AbortController());
  await answer(question).catch(fail);
  working(null);
  $("question").focus();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  history.length = 0;
  $("chat").replaceChildren($("hint"));
  $("hint").hidden = false;
});

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

// What is known of a token, beside the pointer (or the finger).

function line(label, value) {
  const element = document.createElement("div");
  const code = document.createElement("code");
  code.textContent = value;
  element.append(`${label} `, code);
  return element;
}

function showTip(span) {
  const { source, score, draft_text: draft, text } = span.told;
  const title = document.createElement("b");
  title.textContent = source === "llm" ? "The LLM wrote this" : "The SLM wrote this";
  const lines = [title, line("token", JSON.stringify(text))];
  if (score !== null) lines.push(line("score", score.toFixed(4)));
  if (draft !== null) lines.push(line("the SLM wanted", JSON.stringify(draft)));
  const tip = $("tip");
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const at = span.getClientRects()[0];
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : at.bottom + 6}px`;
}

document.addEventListener("pointerover", (event) => {
  if (event.target.told) showTip(event.target);
  else $("tip").hidden = true;
});
$("chat").addEventListener("scroll", () => { $("tip").hidden = true; });

loadModel().catch((error) => { if ($("key-field").hidden) fail(error); });
