// A lane: a model with its options, and the text it writes. The page has one, or two side by side.

import { OptionForm } from "./options.js";
import { completion, Failure } from "./stream.js";
import { Text } from "./text.js";
import { tokensOf } from "./tokens.js";

const SHOWN_PROMPT = 400; // characters of a prompt that stand before the text
const REASONS = { length: "max_tokens reached", stop: "came to its end", abort: "stopped" };

const time = (milliseconds) => (milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`);

/** What a run has given so far, as people read it. */
function figures({ count, started, first, last, seed, reason }) {
  const said = [`${count.toLocaleString("en")} token${count === 1 ? "" : "s"}`];
  const rate = (1000 * (count - 1)) / (last - first);
  if (count > 1 && Number.isFinite(rate)) said.push(`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`);
  if (first) said.push(`first after ${time(first - started)}`);
  if (seed !== undefined) said.push(`seed ${seed}`);
  if (reason) said.push(REASONS[reason] ?? reason);
  return said;
}

export class Lane {
  #logprobs = 5; // alternatives asked for in each place
  #parts;
  #text;
  #form;
  #page;
  #given = null; // the prompt of the text that is shown
  #abort = null;

  /** `page` has what lanes share: key(), prompt(), changed(), say(sentence), asksForKey(), copy(text, button). */
  constructor(template, prefix, page) {
    this.element = template.content.cloneNode(true).firstElementChild;
    this.#page = page;
    const part = (name) => this.element.querySelector(name);
    this.#parts = {
      model: part("select"), details: part("details"), changed: part(".changed"), reset: part(".reset"),
      output: part(".output"), given: part(".given"), empty: part(".empty"), figures: part(".figures"),
      problem: part(".problem"), sentence: part(".sentence"), detail: part(".detail"), again: part(".again"),
      foot: part(".foot"), proceed: part(".continue"), copy: part(".copy"),
    };
    this.#parts.model.id = `${prefix}-model`;
    part(".model label").htmlFor = this.#parts.model.id;
    this.#form = new OptionForm(part(".fields"), prefix, () => this.#optionsChanged());
    this.#text = new Text(part(".made"), part(".card"), (index, token) => this.#continueWith(index, token));
    this.#listen();
    this.#optionsChanged();
  }

  #listen() {
    const { model, reset, details, again, proceed, copy } = this.#parts;
    model.addEventListener("change", () => this.#nameOutput());
    reset.addEventListener("click", () => {
      this.take([]);
      details.querySelector("summary").focus();
      this.#page.say("The options have their defaults.");
    });
    again.addEventListener("click", () => this.#run());
    proceed.addEventListener("click", () => this.#run());
    copy.addEventListener("click", () => this.#page.copy(this.#given + this.#text, copy));
  }

  get model() {
    return this.#parts.model.value;
  }

  /** A name that is not among the models changes nothing. */
  set model(name) {
    if ([...this.#parts.model.options].some((option) => option.value === name)) this.#parts.model.value = name;
    this.#nameOutput();
  }

  /** The names to choose from; the one chosen stays if it is among them. */
  set models(names) {
    const { model } = this;
    this.#parts.model.replaceChildren(...names.map((name) => new Option(name, name)));
    this.model = model;
  }

  /** The options that are not the defaults, name to text. */
  get options() {
    return this.#form.changed;
  }

  /** Takes options by name, and the defaults of all others; returns how many could not be taken. */
  take(options) {
    const left = this.#form.take(options);
    this.#optionsChanged();
    return left;
  }

  set unfolded(open) {
    this.#parts.details.open = open;
  }

  get running() {
    return this.#abort !== null;
  }

  /** Begins anew with the page's prompt. */
  async generate() {
    if (this.#refuses()) return;
    this.stop();
    this.#text.clear();
    this.#given = this.#page.prompt();
    const start = this.#given.length > SHOWN_PROMPT ? "…" : "";
    this.#parts.given.textContent = start + this.#given.slice(-SHOWN_PROMPT);
    await this.#run();
  }

  stop() {
    this.#abort?.abort();
  }

  closeCard() {
    return this.#text.closeCard();
  }

  #optionsChanged() {
    const changed = [...this.options].map(([name, text]) => (name === "greedy" ? name : `${name} ${text.replaceAll("\n", " ")}`));
    this.#parts.changed.textContent = changed.join(", ");
    this.#parts.reset.disabled = changed.length === 0;
  }

  #nameOutput() {
    this.#parts.output.setAttribute("aria-label", `Text of ${this.model}`);
  }

  async #continueWith(index, token) {
    if (this.#refuses()) return;
    this.stop();
    this.#text.replaceFrom(index, token);
    await this.#run();
  }

  /** Shows an option that is out of range, if there is one, and tells so. */
  #refuses() {
    const { wrong } = this.#form;
    if (!wrong) return false;
    this.unfolded = true;
    wrong.focus();
    this.#page.say(`${wrong.name} is out of range.`);
    return true;
  }

  /** Asks for more text after what is there. */
  async #run() {
    if (this.#refuses()) return;
    const options = this.#form.request;
    const abort = new AbortController();
    this.#abort = abort;
    this.#show(null);
    this.#refresh();
    const run = { count: 0, started: performance.now(), first: 0, last: 0, seed: options.seed, reason: "" };
    const body = { model: this.model, prompt: this.#given + this.#text, ...options };
    const streamed = { stream: true, stream_options: { include_usage: true } };
    let failure = null;
    try {
      await this.#readWithLogprobs(run, { ...body, ...streamed }, abort);
    } catch (error) {
      if (error.name === "AbortError") run.reason = "abort";
      else failure = error;
    }
    if (this.#abort === abort) this.#finish(run, failure); // no other run has begun
  }

  /** Asks for fewer alternatives where the server names fewer. */
  async #readWithLogprobs(run, body, abort) {
    try {
      await this.#read(run, { ...body, logprobs: this.#logprobs }, abort);
    } catch (error) {
      if (error.field !== "logprobs" || this.#logprobs === 0) throw error;
      this.#logprobs = Math.floor(this.#logprobs / 2);
      await this.#readWithLogprobs(run, body, abort);
    }
  }

  async #read(run, body, abort) {
    for await (const chunk of completion(body, { key: this.#page.key(), signal: abort.signal })) {
      if (this.#abort !== abort) return;
      for (const choice of chunk.choices ?? []) this.#take(run, choice);
      run.count = chunk.usage?.completion_tokens ?? run.count;
      if (run.first) this.#parts.figures.textContent = figures(run).slice(0, 3).join(" · ");
    }
  }

  #take(run, choice) {
    const tokens = tokensOf(choice);
    if (tokens.length || choice.text) {
      run.last = performance.now();
      run.first ||= run.last;
    }
    run.count += tokens.length;
    run.reason = choice.finish_reason ?? run.reason;
    const follows = this.#endIsSeen();
    this.#text.push(choice.text ?? "", tokens);
    if (follows) this.#parts.foot.scrollIntoView({ block: "nearest" });
  }

  #endIsSeen() {
    const { bottom } = this.#parts.foot.getBoundingClientRect();
    return bottom > 0 && bottom <= innerHeight + 2;
  }

  #finish(run, failure) {
    this.#abort = null;
    this.#text.end();
    this.#refresh();
    this.#parts.figures.textContent = run.count ? figures(run).join(" · ") : (REASONS[run.reason] ?? "");
    if (failure) this.#show(failure);
    else this.#page.say(`${this.model}: ${figures({ ...run, seed: undefined }).join(", ")}.`);
  }

  /** Shows what went wrong, or that nothing did. */
  #show(error) {
    const { problem, sentence, detail, again } = this.#parts;
    problem.hidden = error === null;
    if (error === null) return;
    if (error.status === 401) this.#page.asksForKey();
    sentence.textContent = error instanceof Failure ? error.message : `The page failed: ${error.message}`;
    detail.textContent = error.detail ?? "";
    again.hidden = error.status === 400 || error.status === 401;
  }

  #refresh() {
    const { output, empty, proceed, copy, figures } = this.#parts;
    const { running } = this;
    output.classList.toggle("running", running);
    output.setAttribute("aria-busy", String(running));
    empty.hidden = this.#given !== null;
    output.hidden = this.#given === null;
    proceed.disabled = running || this.#text.isEmpty;
    copy.disabled = this.#given === null;
    if (running) figures.textContent = "waiting for the first token";
    this.#page.changed();
  }
}
