// The options of a completion: one table, from which come the form, the request and the link.

/** `least` and `most` are what the form admits; what else a model refuses, its server says. */
const OPTIONS = [
  { name: "max_tokens", group: "Length", kind: "integer", initial: "128", least: 1, step: 16 },
  { name: "stop", group: "Length", kind: "lines", initial: "", hint: "Ends the text; one a line, \\n is a line break." },
  { name: "greedy", group: "Sampling", kind: "switch", initial: "", hint: "the likeliest token" },
  { name: "temperature", group: "Sampling", kind: "number", initial: "1", least: 0, step: 0.1, sampling: true },
  { name: "top_p", group: "Sampling", kind: "number", initial: "1", least: 0, most: 1, step: 0.05, sampling: true, hint: "1: off" },
  { name: "top_k", group: "Sampling", kind: "integer", initial: "0", least: 0, step: 10, sampling: true, hint: "0: off" },
  { name: "min_p", group: "Sampling", kind: "number", initial: "0", least: 0, most: 1, step: 0.05, sampling: true, hint: "0: off" },
  { name: "seed", group: "Sampling", kind: "integer", initial: "", least: 0, most: Number.MAX_SAFE_INTEGER, sampling: true },
  { name: "repetition_penalty", group: "Repetition", kind: "number", initial: "1", least: 0.01, step: 0.05, hint: "1: off" },
];

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** What is wrong with the text of an option, "" if nothing is. */
function fault({ kind, least, most }, text) {
  if (text === "" || kind === "lines" || kind === "switch") return "";
  const value = Number(text);
  const range = most === undefined ? `${least} or more` : `${least} to ${most === Number.MAX_SAFE_INTEGER ? "2⁵³ - 1" : most}`;
  const whole = kind === "integer" && !Number.isInteger(value);
  return !Number.isFinite(value) || whole || value < least || value > (most ?? Infinity) ? `${kind === "integer" ? "An integer, " : ""}${range}` : "";
}

const ESCAPES = { n: "\n", t: "\t", r: "\r", "\\": "\\" };
const unescaped = (text) => text.replace(/\\([ntr\\])/g, (_, c) => ESCAPES[c]);

/** A form of all options. */
export class OptionForm {
  #controls = new Map();

  /** `prefix` makes ids unique; `changed` is called after every change. */
  constructor(container, prefix, changed) {
    for (const group of new Set(OPTIONS.map((option) => option.group))) {
      const fieldset = made("fieldset", {}, made("legend", { textContent: group }));
      for (const option of OPTIONS) if (option.group === group) fieldset.append(this.#field(option, `${prefix}-${option.name}`));
      container.append(fieldset);
    }
    container.addEventListener("input", () => {
      this.#mark();
      changed();
    });
    this.reset();
  }

  #field(option, id) {
    const label = made("label", { htmlFor: id, textContent: option.name });
    const note = made("p", { id: `${id}-note`, className: "hint", textContent: option.hint ?? "" });
    const control = option.kind === "lines" ? made("textarea", { rows: 1 }) : made("input");
    Object.assign(control, { id, name: option.name, spellcheck: false, autocomplete: "off" });
    control.setAttribute("aria-describedby", note.id);
    if (option.kind === "switch") control.type = "checkbox";
    if (option.kind === "number" || option.kind === "integer") {
      Object.assign(control, { type: "number", inputMode: option.kind === "integer" ? "numeric" : "decimal" });
      Object.assign(control, { min: option.least, max: option.most ?? "", step: option.step ?? 1, placeholder: option.initial });
    }
    if (option.name === "seed") control.placeholder = "random";
    this.#controls.set(option.name, { option, control, note });
    return made("div", { className: `field ${option.kind} ${option.name}` }, label, control, note);
  }

  #text(name) {
    const { option, control } = this.#controls.get(name);
    if (option.kind === "switch") return control.checked ? "1" : "";
    if (control.validity.badInput) return "?"; // no number: no option's range has it
    const text = control.value.trim() === "" ? option.initial : control.value;
    return option.kind === "lines" ? text : text.trim();
  }

  #set(name, text) {
    const { option, control } = this.#controls.get(name);
    if (option.kind === "switch") control.checked = text === "1";
    else control.value = text;
  }

  /** Shows what is wrong and what is not the default. */
  #mark() {
    const greedy = this.#text("greedy") === "1";
    for (const [name, { option, control, note }] of this.#controls) {
      const wrong = fault(option, this.#text(name));
      note.textContent = wrong || (option.hint ?? "");
      control.setAttribute("aria-invalid", String(wrong !== ""));
      control.disabled = greedy && option.sampling === true;
      control.parentElement.classList.toggle("other", this.#text(name) !== option.initial);
    }
  }

  /** Gives every option its default. */
  reset() {
    for (const { option } of this.#controls.values()) this.#set(option.name, option.initial);
    this.#mark();
  }

  /** The options that are not the defaults, name to text. */
  get changed() {
    const names = [...this.#controls.keys()].filter((name) => this.#text(name) !== this.#controls.get(name).option.initial);
    return new Map(names.map((name) => [name, this.#text(name)]));
  }

  /** Takes options of a link. Unknown names and values out of range are left out; returns how many. */
  take(texts) {
    let left = 0;
    this.reset();
    for (const [name, text] of texts) {
      const known = this.#controls.get(name);
      if (known && !fault(known.option, text)) this.#set(name, text);
      else left += 1;
    }
    this.#mark();
    return left;
  }

  /** The control with a wrong value, if there is one. */
  get wrong() {
    return [...this.#controls.values()].find(({ control }) => !control.disabled && control.getAttribute("aria-invalid") === "true")?.control;
  }

  /** The options as fields of a request: all that are shown, so that a server's own defaults change nothing. */
  get request() {
    const number = (name) => Number(this.#text(name));
    const fields = { max_tokens: number("max_tokens"), repetition_penalty: number("repetition_penalty") };
    const stop = this.#text("stop").split("\n").filter((line) => line !== "").map(unescaped);
    if (stop.length) fields.stop = stop;
    if (this.#text("greedy") === "1") return { ...fields, temperature: 0 };
    for (const name of ["temperature", "top_p", "top_k", "min_p"]) fields[name] = number(name);
    const seed = this.#text("seed");
    return { ...fields, seed: seed === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(seed) };
  }
}
