"use strict";
const at = id => document.getElementById(id);
const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
};

// Which routers are shown, in tables and figures.
at("series")?.addEventListener("change", event => {
  for (const part of document.querySelectorAll("[data-series]"))
    if (part.dataset.series === event.target.value) part.style.display = event.target.checked ? "" : "none";
});

// The traces.
const problems = at("data") ? JSON.parse(at("data").textContent) : [];
const visible = text => text === "" ? "(empty)" : JSON.stringify(text);

function options(select, names, chosen) {
  select.replaceChildren(...names.map(name => {
    const option = make("option", "", name);
    option.value = name;
    return option;
  }));
  if (names.includes(chosen)) select.value = chosen;
}

function told(answer, index) {
  const lines = [visible(answer.pieces[index]) + (answer.llm[index] === "1" ? " by the LLM" : " by the SLM")];
  const score = answer.scores?.[index];
  if (score !== undefined && score !== null) lines.push("score " + score.toFixed(3));
  if (index in answer.drafts) {
    const [draft, ...cut] = answer.drafts[index].split("✂");
    lines.push("the SLM wanted " + visible(draft));
    if (cut.length) lines.push("✂ cut behind it " + visible(cut.join("✂")));
  }
  const others = answer.alternatives[index];
  if (others) lines.push("its choices:", ...others.map(([text, p]) => "  " + (100 * p).toFixed(1).padStart(5) + "%  " + visible(text)));
  return lines.join("\n");
}

function tip(span, text) {
  const box = at("tip");
  box.textContent = text;
  box.hidden = false;
  const place = span.getBoundingClientRect();
  box.style.left = Math.max(4, Math.min(place.left, innerWidth - box.offsetWidth - 4)) + "px";
  const below = place.bottom + 6;
  box.style.top = (below + box.offsetHeight < innerHeight ? below : place.top - box.offsetHeight - 6) + "px";
}

function column(name, answer) {
  const box = make("div");
  const tokens = answer.llm.length, byLlm = answer.llm.split("1").length - 1;
  const grade = make("p", "note");
  grade.append(make("strong", answer.correct ? "good" : "bad", answer.correct ? "✓ correct" : "✗ wrong"),
    ` · ${tokens} tokens, ${tokens ? Math.round(100 * byLlm / tokens) : 0}% by the LLM`);
  const text = make("div", "text answer");
  answer.pieces.forEach((piece, index) => {
    const llm = answer.llm[index] === "1";
    const replaced = llm && index in answer.drafts && answer.drafts[index] !== piece;
    const span = make("span", "t" + (llm ? " llm" : "") + (replaced ? " replaced" : "") + (replaced && answer.drafts[index].includes("✂") ? " cut" : ""), piece);
    if (llm) {
      span.tabIndex = 0;
      span.setAttribute("role", "note");
      span.setAttribute("aria-describedby", "tip");
    }
    const show = () => tip(span, told(answer, index));
    for (const event of ["mouseenter", "focus", "click"]) span.addEventListener(event, show);
    for (const event of ["mouseleave", "blur"]) span.addEventListener(event, () => at("tip").hidden = true);
    text.append(span);
  });
  box.append(make("h3", "", name), grade, text);
  return box;
}

const wanted = {
  "": () => true,
  wrong: (left, right) => !right.correct,
  changed: (left, right) => left.correct !== right.correct,
  lost: (left, right) => left.correct && !right.correct,
  won: (left, right) => !left.correct && right.correct,
};

// The problems that are asked for, and which of them is shown.
function matching() {
  const fits = wanted[at("which").value], words = at("search").value.trim().toLowerCase();
  return problems.filter(problem => {
    const left = problem.answers[at("left").value], right = problem.answers[at("right").value];
    if (at("which").value && !(left && right && fits(left, right))) return false;
    return (problem.id + "\n" + problem.question).toLowerCase().includes(words);
  });
}

function filtered() {
  const found = matching();
  options(at("problem"), found.map(problem => problem.id), at("problem").value);
  draw();
}

function draw() {
  const ids = [...at("problem").options].map(option => option.value), place = ids.indexOf(at("problem").value);
  at("place").textContent = ids.length ? `${place + 1} of ${ids.length}` : "";
  at("previous").disabled = place <= 0;
  at("next").disabled = place >= ids.length - 1;
  at("none").hidden = ids.length > 0;
  at("shown").hidden = !ids.length;
  const problem = problems.find(problem => problem.id === ids[place]);
  if (!problem) return;
  at("question").textContent = problem.question + "\n\nReference: " + problem.gold;
  const chosen = [...new Set([at("left").value, at("right").value])].filter(name => name in problem.answers);
  at("pair").replaceChildren(...chosen.map(name => column(name, problem.answers[name])));
  at("pair").className = "pair " + at("filter").value;
  const where = new URLSearchParams({ problem: problem.id, left: at("left").value, right: at("right").value });
  at("link").href = "#" + where;
}

function step(by) {
  at("problem").selectedIndex += by;
  draw();
}

// A link names the problem and the two systems.
function follow() {
  const where = new URLSearchParams(location.hash.slice(1));
  if (!where.has("problem")) return;
  at("which").value = at("search").value = "";
  for (const side of ["left", "right"]) if (systems.includes(where.get(side))) at(side).value = where.get(side);
  options(at("problem"), problems.map(problem => problem.id), where.get("problem"));
  draw();
  at("traces").scrollIntoView();
}

const systems = [...new Set(problems.flatMap(problem => Object.keys(problem.answers)))];
if (problems.length) {
  const routed = systems.find(name => name.includes("@"));
  options(at("left"), systems, "SLM");
  options(at("right"), systems, routed ?? systems.at(-1));
  filtered();
  for (const id of ["which", "left", "right"]) at(id).addEventListener("change", filtered);
  at("search").addEventListener("input", filtered);
  for (const id of ["problem", "filter"]) at(id).addEventListener("change", draw);
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  addEventListener("scroll", () => at("tip").hidden = true, true);
  addEventListener("keydown", event => { if (event.key === "Escape") at("tip").hidden = true; });
  addEventListener("hashchange", follow);
  follow();
}
