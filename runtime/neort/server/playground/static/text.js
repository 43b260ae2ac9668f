// The text of a lane: its tokens, how the keyboard and the pointer go over them, and the card beside one.

import { Card } from "./card.js";
import { Aligner, percent, shown, tint } from "./tokens.js";

const isToken = (element) => element.classList.contains("token");

function classes({ tokens }) {
  if (!tokens.length || tokens.some((token) => token.logprob === null)) return "";
  const colour = tint(tokens.reduce((sum, token) => sum + token.logprob, 0));
  return `token ${colour}`;
}

/** Generated text. It is only ever put into the page as text, never as HTML. */
export class Text {
  #made;
  #card;
  #pieces = []; // {text, tokens, element, nodes}
  #aligner = new Aligner();
  #current = null; // the token that the Tab key goes to

  /** `made` takes the tokens, `card` the card; `chosen(index, token)` is called when another token is chosen. */
  constructor(made, card, chosen) {
    this.#made = made;
    this.#card = new Card(card, (index, token) => chosen(index, token));
    this.#listen();
  }

  toString() {
    return this.#pieces.map((piece) => piece.text).join("");
  }

  get isEmpty() {
    return this.#pieces.length === 0;
  }

  clear() {
    this.#card.hide();
    this.#pieces = [];
    this.#aligner = new Aligner();
    this.#current = null;
    this.#made.replaceChildren();
  }

  /** Takes a chunk's text and tokens. */
  push(text, tokens) {
    for (const piece of this.#aligner.push(text, tokens)) this.#append(piece);
  }

  /** Takes what is left at the end of a run. */
  end() {
    for (const piece of this.#aligner.end()) this.#append(piece);
  }

  /** Puts another token in the place of a piece, and takes away what comes after it. */
  replaceFrom(index, token) {
    for (const { nodes } of this.#pieces.splice(index)) nodes.forEach((node) => node.remove());
    this.#aligner = new Aligner();
    this.#current = null;
    this.#append({ text: token.text, tokens: [token] });
    this.#turnTo(this.#pieces[index].element);
    this.#current.focus();
    this.#card.hide();
  }

  /** Hides the card; tells whether one was there. */
  closeCard() {
    const { anchor } = this.#card;
    if (!anchor) return false;
    if (this.#card.contains(document.activeElement)) anchor.focus();
    this.#card.hide();
    return true;
  }

  #append({ text, tokens }) {
    const element = document.createElement("span");
    element.className = classes({ tokens });
    const spaces = text.trim() ? /^ */.exec(text)[0] : ""; // they stay outside, so that colours end where words do
    element.textContent = text.slice(spaces.length).replaceAll("\n", "⏎\n") || "▯";
    const nodes = [document.createTextNode(spaces), element];
    this.#pieces.push({ text, tokens, element, nodes });
    this.#made.append(...nodes);
    if (isToken(element) && !this.#current) this.#turnTo(element);
  }

  #indexOf(element) {
    return this.#pieces.findIndex((piece) => piece.element === element);
  }

  /** Makes a token the one that the Tab key goes to. It alone is a button: others are read as the text they are. */
  #turnTo(element) {
    if (this.#current) for (const name of ["tabindex", "role", "aria-label"]) this.#current.removeAttribute(name);
    this.#current = element;
    const { tokens } = this.#pieces[this.#indexOf(element)];
    element.setAttribute("tabindex", "0");
    element.setAttribute("role", "button");
    element.setAttribute("aria-label", tokens.map(({ text, logprob }) => `${shown(text)}, ${percent(logprob)}`).join("; "));
  }

  #showCard(element, pinned) {
    const index = this.#indexOf(element);
    const open = index === 0 || this.#pieces[index - 1].text !== ""; // no text goes on after a part of a character
    this.#card.show(element, index, this.#pieces[index], { pinned, open });
  }

  #listen() {
    this.#made.addEventListener("pointermove", ({ target, pointerType }) => { // not pointerover: text moves, too
      if (!isToken(target) || pointerType !== "mouse" || this.#card.pinned || this.#card.anchor === target) return;
      this.#showCard(target, false);
    });
    this.#made.addEventListener("pointerout", () => this.#card.leave());
    this.#made.addEventListener("click", ({ target }) => {
      if (!isToken(target) || !getSelection().isCollapsed) return;
      this.#turnTo(target);
      target.focus({ preventScroll: true });
      this.#showCard(target, true);
    });
    this.#made.addEventListener("focusin", ({ target }) => isToken(target) && this.#showCard(target, true));
    this.#made.addEventListener("focusout", ({ relatedTarget }) => this.#left(relatedTarget));
    this.#card.element.addEventListener("focusout", ({ relatedTarget }) => this.#left(relatedTarget));
    document.addEventListener("pointerdown", ({ target }) => this.#card.pinned && this.#left(target));
    this.#made.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Hides the card when the focus or a press goes elsewhere. */
  #left(target) {
    if (!this.#card.contains(target) && !this.#made.contains(target)) this.#card.hide();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#current) return;
    const index = this.#indexOf(this.#current);
    const last = this.#pieces.length - 1;
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: last }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      const { element } = this.#pieces[Math.max(0, Math.min(next, last))];
      if (!isToken(element)) return;
      this.#turnTo(element);
      element.focus();
    } else if (["Enter", " ", "ArrowDown"].includes(event.key)) {
      event.preventDefault();
      this.#showCard(this.#current, true);
      this.#card.enter();
    }
  }
}
