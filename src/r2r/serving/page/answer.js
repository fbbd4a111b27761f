// An answer on the page: Markdown and formulas, each piece in the colour of who wrote it.
// HTML in it is shown as text; Markdown becomes elements by marked, and only those that DOMPurify lets
// through.

import { Marked } from "/page/vendor/marked.js";
import purify from "/page/vendor/purify.js";

const markdown = new Marked({ gfm: true, breaks: true, tokenizer: { html() {}, tag() {} } }); // HTML is text
const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["start", "align"],
  RETURN_DOM_FRAGMENT: true,
};
// Formulas: $$...$$, \[...\], \(...\), $...$ on one line with no space inside its ends, \boxed{...}.
const CODE = /```[\s\S]*?(?:```|$)|`[^`\n]*`/g;
const TEX = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\d)|(\\boxed\{(?:[^{}]|\{[^{}]*\})*\})/g;
const MARK = /\uE000(\d+)\uE001/;

// The formulas of a text, and the text for marked: a mark in the place of each formula, and products
// like 5*x kept from being emphasis.
function withoutFormulas(text) {
  const formulas = [], parts = [];
  const take = (from, to) => parts.push(text.slice(from, to).replace(TEX, (whole, block, bracket, paren, inline, boxed, at) => {
    const tex = block ?? bracket ?? paren ?? inline ?? boxed, start = from + at;
    formulas.push({ tex, display: (block ?? bracket) !== undefined, from: start, to: start + whole.length });
    return `\uE000${formulas.length - 1}\uE001`;
  }).replace(/(?<=[\w)])\*(?=[\w(])/g, "\\*"));
  let at = 0;
  for (const code of text.matchAll(CODE)) {
    take(at, code.index);
    parts.push(code[0]);
    at = code.index + code[0].length;
  }
  take(at, text.length);
  return { formulas, marked: parts.join("").trimEnd() };
}

function* textNodes(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) yield walker.currentNode;
}

function tokenSpan(token, text) {
  const span = document.createElement("span");
  span.className = `token ${token.source}${token.cut_text ? " cut" : ""}`;
  span.textContent = text;
  if (token.cut_text) span.dataset.cut = `${token.draft_text ?? ""}${token.cut_text}`.replaceAll("\n", "⏎");
  span.told = token;
  return span;
}

// The tokens as they are, a span each.
export function plain(tokens) {
  const box = document.createElement("div");
  box.className = "plain";
  for (const token of tokens) if (token.text) box.append(tokenSpan(token, token.text));
  return box;
}

// The tokens as formatted text. Rendering only takes characters away, so that each that is shown is
// the next of its kind in the source, and belongs to the token that wrote it there.
export function formatted(tokens) {
  const source = tokens.map((token) => token.text).join("");
  const owner = tokens.flatMap((token, index) => Array(token.text.length).fill(index));
  const { formulas, marked: text } = withoutFormulas(source);
  const box = document.createElement("div");
  box.className = "formatted";
  box.append(purify.sanitize(markdown.parse(text), ALLOWED));
  let at = 0;
  for (const node of [...textNodes(box)]) {
    if (!node.data.trim()) continue; // line ends of the HTML, which nobody wrote
    const parts = [];
    for (let rest = node.data; rest;) {
      const found = rest.match(MARK);
      const upto = rest.slice(0, found ? found.index : rest.length);
      let run = null;
      for (const letter of upto) {
        const place = source.indexOf(letter, at);
        if (place >= 0 && place - at < 400) at = place + letter.length;
        const token = tokens[owner[Math.min(Math.max(0, at - 1), owner.length - 1)]];
        if (run?.told === token) run.textContent += letter;
        else parts.push(run = tokenSpan(token, letter));
      }
      if (!found) break;
      const formula = formulas[Number(found[1])];
      if (formula) {
        parts.push(formulaSpan(formula, tokens.slice(owner[formula.from], owner[formula.to - 1] + 1)));
        at = formula.to;
      }
      rest = rest.slice(found.index + found[0].length);
    }
    node.replaceWith(...parts);
  }
  return box;
}

// A formula is one piece: the LLM's where any of its tokens is.
function formulaSpan({ tex, display }, tokens) {
  const span = tokenSpan(tokens.find((token) => token.source === "llm") ?? tokens[0], "");
  globalThis.katex.render(tex, span, { displayMode: display, throwOnError: false, trust: false, maxSize: 20, maxExpand: 200 });
  return span;
}
