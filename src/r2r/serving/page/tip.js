// What is known of a token: beside the pointer or the finger, or where the arrow keys have come to.

const tip = document.getElementById("tip");

function line(label, value) {
  const element = document.createElement("div");
  const code = document.createElement("code");
  code.textContent = value;
  element.append(`${label} `, code);
  return element;
}

function show(span) {
  const { source, score, draft_text: draft, cut_text: cut, text } = span.told;
  const title = document.createElement("b");
  title.textContent = source === "llm" ? "The LLM wrote this" : "The SLM wrote this";
  const lines = [title, line("token", JSON.stringify(text))];
  if (score !== null) lines.push(line("score", score.toFixed(4)));
  if (draft !== null) lines.push(line("the SLM wanted", JSON.stringify(draft)));
  if (cut) lines.push(line("✂ cut behind it", JSON.stringify(cut)));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const at = span.getClientRects()[0];
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : at.bottom + 6}px`;
}

export function hide() {
  tip.hidden = true;
}

// Arrow keys walk over the tokens of the answer that has the focus; with shift over the LLM's alone.
function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const answer = event.target.closest?.(".written");
  if (!step || !answer) return;
  event.preventDefault();
  const tokens = [...answer.querySelectorAll(event.shiftKey ? ".token.llm" : ".token")];
  const current = answer.querySelector(".token.current");
  const all = [...answer.querySelectorAll(".token")];
  const place = all.indexOf(current);
  const next = step > 0
    ? tokens.find((token) => all.indexOf(token) > place)
    : tokens.findLast((token) => all.indexOf(token) < (place < 0 ? all.length : place));
  if (!next) return;
  current?.classList.remove("current");
  for (let fold = next.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  next.classList.add("current");
  next.scrollIntoView({ block: "nearest" });
  show(next);
  document.getElementById("news").textContent = tip.innerText;
}

document.addEventListener("pointerover", (event) => {
  const span = event.target.closest?.(".token");
  if (span?.told) show(span);
  else hide();
});
document.addEventListener("keydown", walk);
document.addEventListener("focusout", (event) => {
  event.target.querySelector?.(".token.current")?.classList.remove("current");
  hide();
});
document.getElementById("chat").addEventListener("scroll", hide);
