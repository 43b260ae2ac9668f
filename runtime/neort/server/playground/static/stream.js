// A completion as the server streams it: server-sent events, and what can go wrong, in sentences for people.
// Knows nothing about the page.

const LONGEST = 600; // characters of a server's message that are shown

/** Server-sent events out of pieces of text that may be cut anywhere. */
export class EventParser {
  #rest = "";
  #data = [];

  /** The data of the events that end in `text`, in their order. */
  feed(text) {
    this.#rest += text;
    const events = [];
    for (;;) {
      const end = /\r\n|\n|\r(?=[^])/.exec(this.#rest); // a \r at the very end may be half of a \r\n
      if (!end) return events;
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      if (line === "") {
        if (this.#data.length) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
  }
}

/** A request that gave no text, or not all of it: a sentence, what the server said besides, and the field it is about. */
export class Failure extends Error {
  constructor(sentence, { detail = "", status = 0, field = null } = {}) {
    super(sentence);
    this.detail = detail;
    this.status = status;
    this.field = field;
  }
}

export const shortened = (text) => (text.length > LONGEST ? text.slice(0, LONGEST) + "…" : text);

/** "in 3 seconds" for a Retry-After header of seconds or of a date; "later" for none. */
export function waiting(header, now = Date.now()) {
  if (!header) return "later";
  const seconds = /^\d+$/.test(header) ? Number(header) : Math.ceil((Date.parse(header) - now) / 1000);
  if (!Number.isFinite(seconds) || seconds > 86400) return "later";
  if (seconds <= 1) return "in a second";
  return seconds < 120 ? `in ${seconds} seconds` : `in ${Math.ceil(seconds / 60)} minutes`;
}

/** The message of an error's document and the field that it is about. */
function told(body) {
  try {
    const { error } = JSON.parse(body);
    return { detail: shortened(String(error.message ?? error)), field: error.param ?? null };
  } catch {
    return { detail: "", field: null };
  }
}

/** What an answer with an error status means. */
async function refusal(response) {
  const { detail, field } = told(await response.text().catch(() => ""));
  const { status } = response;
  const later = waiting(response.headers.get("retry-after"));
  if (status === 401) return new Failure("The server asks for an API key.", { status });
  if (status === 429) return new Failure(`The server is busy. Please try again ${later}.`, { detail, status });
  if (status === 503) return new Failure(`The server takes no requests now. Please try again ${later}.`, { detail, status });
  if (status >= 500) return new Failure(`The server failed with status ${status}.`, { detail, status });
  return new Failure(detail || `The server refuses this with status ${status}.`, { status, field });
}

/** fetch, with a Failure for everything but an answer of success. A stop by `signal` stays an AbortError. */
export async function ask(path, { key, body, signal } = {}) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

const LOST = "The connection ended before the text did. What has come is kept.";

function parsed(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new Failure("The server sent something that is no JSON. What has come is kept.", { detail: shortened(data) });
  }
  if (chunk?.error) {
    const detail = shortened(String(chunk.error.message ?? chunk.error));
    throw new Failure("The server broke off. What has come is kept.", { detail });
  }
  return chunk;
}

/** Reads what is left, so that an answer that is complete does not count as cancelled. */
async function drain(reader) {
  try {
    while (!(await reader.read()).done);
  } catch {
    // there was nothing left to lose
  }
}

/** The chunks of a completion, as they come; a server that does not stream gives one chunk. */
export async function* completion(body, { key, signal }) {
  const response = await ask("v1/completions", { key, body, signal });
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    yield parsed(await response.text());
    return;
  }
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  let complete = false;
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new Failure(LOST);
      });
      if (done) throw new Failure(LOST);
      for (const data of parser.feed(decoder.decode(value, { stream: true }))) {
        complete = data === "[DONE]";
        if (complete) return;
        yield parsed(data);
      }
    }
  } finally {
    if (complete) drain(reader);
    else reader.cancel().catch(() => {});
  }
}
