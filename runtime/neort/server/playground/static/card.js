// The card beside a token: its probability and what else could have stood there.

import { isText, percent, shown } from "./tokens.js";

const GRACE = 160; // milliseconds in which the pointer may go from the token to the card

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** The alternatives of a token with the token itself among them, most probable first. */
function choices(token) {
  const own = token.top.some(([text]) => text === token.text) ? [] : [[token.text, token.logprob]];
  return [...token.top, ...own].sort((a, b) => b[1] - a[1]);
}

/** The card of one lane's text. `chosen(index, token)` is called when a token is chosen in place of piece `index`. */
export class Card {
  #chosen;
  #timer = 0;
  #anchor = null;
  pinned = false;

  constructor(element, chosen) {
    this.element = element;
    this.#chosen = chosen;
    element.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    element.addEventListener("pointerleave", () => this.leave());
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  get anchor() {
    return this.#anchor;
  }

  /** Shows piece `index`, whose element is `anchor`; `open` tells whether a text can be continued there. */
  show(anchor, index, piece, { pinned, open }) {
    clearTimeout(this.#timer);
    this.#anchor?.classList.remove("on");
    this.#anchor = anchor;
    this.pinned = pinned;
    anchor.classList.add("on");
    this.element.setAttribute("aria-label", `Alternatives to ${shown(piece.text)}`);
    this.element.replaceChildren(...this.#content(index, piece, open));
    this.element.hidden = false;
    this.#place();
  }

  #content(index, { tokens }, open) {
    const parts = [];
    const [first] = tokens;
    if (tokens.length > 1) {
      parts.push(made("p", "title", `${tokens.length} tokens make this together`));
      const list = made("ul", "parts");
      for (const token of tokens) list.append(this.#row("li", token.text, token.logprob, false));
      parts.push(list, made("p", "title", "In place of the first"));
    } else {
      parts.push(made("p", "title", first.top.length ? "What could stand here" : "Probability"));
    }
    const list = made("ol", "choices");
    for (const [text, logprob] of choices(first)) {
      const row = this.#row(open && isText(text) ? "button" : "div", text, logprob, text === first.text);
      if (row.tagName === "BUTTON") row.addEventListener("click", () => this.#chosen(index, { ...first, text, logprob }));
      const item = document.createElement("li");
      item.append(row);
      list.append(item);
    }
    parts.push(list);
    if (open && list.querySelector("button")) parts.push(made("p", "hint", "Choose one to continue from it."));
    return parts;
  }

  #row(tag, text, logprob, own) {
    const row = made(tag, own ? "choice own" : "choice");
    if (tag === "button") row.type = "button";
    const bar = made("span", "bar");
    const fill = made("i", "");
    fill.style.width = `${100 * Math.exp(logprob)}%`;
    bar.append(fill);
    row.append(made("span", "word", shown(text)), bar, made("span", "number", percent(logprob)));
    return row;
  }

  /** Below the token, or above it where there is more room; narrow screens have it at the edge that is farther. */
  #place() {
    const { style } = this.element;
    style.left = style.top = "";
    if (getComputedStyle(this.element).position === "fixed") {
      this.element.classList.toggle("upper", this.#anchor.getBoundingClientRect().top > innerHeight / 2);
      return;
    }
    const frame = this.element.offsetParent.getBoundingClientRect();
    const rects = this.#anchor.getClientRects();
    const token = rects[0] ?? frame;
    const last = rects[rects.length - 1] ?? frame;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const below = last.bottom + 6 + height <= innerHeight || token.top - 6 - height < 0;
    style.left = `${Math.max(0, Math.min((below ? last : token).left - frame.left - 12, frame.width - width))}px`;
    style.top = `${(below ? last.bottom + 6 : token.top - 6 - height) - frame.top}px`;
  }

  /** Hides the card soon, unless it is pinned or the pointer comes to it. */
  leave() {
    clearTimeout(this.#timer);
    if (!this.pinned) this.#timer = setTimeout(() => this.hide(), GRACE);
  }

  hide() {
    clearTimeout(this.#timer);
    this.#anchor?.classList.remove("on");
    this.#anchor = null;
    this.pinned = false;
    this.element.hidden = true;
  }

  contains(node) {
    return this.element.contains(node);
  }

  /** Puts the focus on the first alternative; tells whether there is one. */
  enter() {
    const first = this.element.querySelector("button");
    first?.focus();
    return first !== null;
  }

  #key(event) {
    const buttons = [...this.element.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) next.focus();
    else if (step < 0) this.#anchor.focus();
  }
}
