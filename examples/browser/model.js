// A bundle's model.onnx in WebAssembly: token ids in, token ids out. Knows nothing of text, pages or workers.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { choose } from "./sampling.js";

export const RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"; // what `load` needs as `wasm`

const PAST = "past_key_values.";
const PRESENT = "present.";
const CHUNK = 128; // tokens of a prompt in one run, which nothing can interrupt

/** Opens a session. The files are Uint8Arrays; more than one thread needs a page that is cross-origin isolated. */
export async function load({ wasm, graph, weights }, threads = 1) {
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = threads;
  return ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"],
    externalData: [{ path: "weights.data", data: weights }],
  });
}

/** One text: its tokens' keys and values, to which further tokens are added. */
export class Sequence {
  #session;
  #past;

  constructor(session) {
    this.#session = session;
    this.#past = emptyPast(session);
    this.length = 0;
  }

  /** Runs the model on further tokens. Returns the logits, float32 [V], for the one to follow them. */
  async extend(ids) {
    const total = this.length + ids.length;
    const { logits, ...present } = await this.#session.run({
      ...this.#past,
      input_ids: int64(ids),
      attention_mask: int64(Array(total).fill(1)), // past and new tokens
      position_ids: int64(ids.map((_, i) => this.length + i)),
    });
    this.#past = Object.fromEntries(Object.entries(present).map(([name, tensor]) => [pastOf(name), tensor]));
    this.length = total;
    const { data, dims } = logits; // [1, S, V]
    return data.subarray(data.length - dims[2]);
  }
}

/**
 * Yields the tokens after `prompt` as `options` (sampling.js) choose them, an end-of-text token the last. Before each
 * run it awaits `halt(done)`, `done` being how many of the prompt's tokens have been read, and ends where that is true.
 */
export async function* generate(session, prompt, { options, maxNewTokens, stopIds, halt = () => false }) {
  const sequence = new Sequence(session);
  const ids = [...prompt];
  let logits;
  for (let start = 0; start < prompt.length; start += CHUNK) {
    if (await halt(start)) return;
    logits = await sequence.extend(prompt.slice(start, start + CHUNK));
  }
  for (let count = 1; ; count++) {
    const token = choose(logits, ids, options);
    yield token;
    if (stopIds.has(token) || count === maxNewTokens || (await halt(prompt.length))) return;
    ids.push(token);
    logits = await sequence.extend([token]);
  }
}

function pastOf(present) {
  return present.replace(PRESENT, PAST);
}

/** An empty cache: float32 [1, heads, 0, head_dim] for each of the graph's past inputs; its outputs have the sizes. */
function emptyPast(session) {
  const outputs = session.outputMetadata.filter(({ name }) => name.startsWith(PRESENT));
  return Object.fromEntries(
    outputs.map(({ name, shape }) => [
      pastOf(name),
      new ort.Tensor("float32", new Float32Array(0), [1, shape[1], 0, shape[3]]),
    ]),
  );
}

function int64(numbers) {
  return new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
}
