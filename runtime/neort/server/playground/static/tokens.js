// Tokens and the text they make: a chunk may have a token whose text comes later, or only together with the next ones.
// Knows nothing about the page.

const BYTES = /^(?:bytes:)?((?:\\x[0-9a-fA-F]{2})+)$/;
const TEXTLESS = /^token_id:\d+$/; // a token that has no bytes
const PARTIAL = /\\x[0-9a-fA-F]{2}|\ufffd|^token_id:/;
const TINTS = [[0.5, "p1"], [0.2, "p2"], [0.05, "p3"], [0.01, "p4"], [0, "p5"]];
const INVISIBLE = /[\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g;

/** Whether a token is text in itself, not a part of a character. */
export const isText = (token) => !PARTIAL.test(token);

/** A token as people read it: quoted, or its bytes where it is a part of a character. */
export function shown(token) {
  if (TEXTLESS.test(token)) return token.replace("token_id:", "token ");
  const bytes = BYTES.exec(token);
  if (bytes) return bytes[1].slice(2).toUpperCase().split("\\X").join(" ");
  const quoted = JSON.stringify(token).replace(INVISIBLE, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  return isText(token) ? quoted : quoted.replaceAll("\\\\x", "\\x");
}

export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  if (value < 0.01) return "< 0.01 %";
  return value.toFixed(value < 1 ? 2 : 1) + " %";
}

/** The class of the colour of a probability. */
export const tint = (logprob) => TINTS.find(([least]) => Math.exp(logprob) >= least)[1];

/** The tokens of a choice of a chunk: {text, logprob, top}, `top` being [text, logprob], most probable first. */
export function tokensOf(choice) {
  const { tokens, token_logprobs: logprobs, top_logprobs: tops } = choice.logprobs ?? {};
  return (tokens ?? []).map((text, i) => ({
    text,
    logprob: logprobs?.[i] ?? null,
    top: Object.entries(tops?.[i] ?? {}).sort((a, b) => b[1] - a[1]),
  }));
}

/**
 * Makes pieces {text, tokens} of chunks: the texts joined are the chunks' texts joined, and every token is in one piece.
 * A piece has several tokens where only together they make characters.
 */
export class Aligner {
  #waiting = []; // tokens whose text has not come
  #text = ""; // text that is not in a piece yet

  /** The pieces that a chunk's text and tokens complete. */
  push(text, tokens) {
    this.#text += text;
    this.#waiting.push(...tokens);
    const pieces = [];
    while (this.#waiting.length) {
      const [first] = this.#waiting;
      if (TEXTLESS.test(first.text)) {
        pieces.push(this.#take(1, 0));
      } else if (!this.#text) {
        break;
      } else if (isText(first.text) && this.#text.startsWith(first.text)) {
        pieces.push(this.#take(1, first.text.length));
      } else if (isText(first.text) && first.text.startsWith(this.#text)) {
        break; // the rest of it is held back
      } else {
        pieces.push(this.#group());
      }
    }
    if (this.#text && !this.#waiting.length) pieces.push(this.#take(0, this.#text.length));
    return pieces;
  }

  /** The pieces that are left at the end of a text. Tokens of a stop string are part of no text. */
  end() {
    if (this.#text) return [this.#take(this.#waiting.length, this.#text.length)];
    const cut = this.#waiting.filter((token) => !isText(token.text));
    this.#waiting = [];
    return cut.length ? [{ text: "", tokens: cut }] : [];
  }

  /** Tokens that make characters together: up to the next one that is a text of its own. */
  #group() {
    for (let i = 1; i < this.#waiting.length; i++) {
      const { text } = this.#waiting[i];
      const start = isText(text) && text ? this.#text.indexOf(text, 1) : -1;
      if (start > 0) return this.#take(i, start);
    }
    return this.#take(this.#waiting.length, this.#text.length);
  }

  #take(count, length) {
    const piece = { text: this.#text.slice(0, length), tokens: this.#waiting.splice(0, count) };
    this.#text = this.#text.slice(length);
    return piece;
  }
}
