// The model, in a thread of its own: the page stays responsive while a run computes.
//
// It takes {type: "load", threads}, {type: "generate", prompt, options, maxNewTokens} and {type: "stop"}, and sends
// "progress", "ready", "prompt" (how much of it is read), "piece", "done" and "failed".

import { RUNTIME, generate, load } from "./model.js";
import { TextCodec, TextStream } from "./text.js";

const BUNDLE = "bundle/";
const JSON_FILES = ["manifest.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
const PROGRESS = 100; // milliseconds between two reports

let model; // {session, codec, stopIds, positions}
let stopped = false;

const send = (type, facts) => postMessage({ type, ...facts });
const actions = { load: start, generate: write, stop: () => (stopped = true) };

addEventListener("message", async ({ data: { type, ...facts } }) => {
  try {
    await actions[type](facts);
  } catch (error) {
    send("failed", { sentence: error.message ?? String(error) }); // onnxruntime throws numbers, too
  }
});

// Loading

async function start({ threads }) {
  const [wasm, graph, weights, ...texts] = await download([
    RUNTIME,
    ...["model.onnx", "weights.data", ...JSON_FILES].map((name) => BUNDLE + name),
  ]);
  const [manifest, options, tokenizer, config] = texts.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  model = {
    session: await load({ wasm, graph, weights }, threads),
    codec: new TextCodec(tokenizer, config),
    stopIds: new Set([options.eos_token_id ?? []].flat()),
    positions: manifest.model.max_position_embeddings,
  };
  send("ready", { name: manifest.source.name, options, threads });
}

/** Fetches all files side by side and reports their progress together. Returns Uint8Arrays. */
async function download(paths) {
  const responses = await Promise.all(paths.map((path) => request(path)));
  const total = responses.reduce((sum, { headers }) => sum + Number(headers.get("content-length")), 0);
  let [loaded, reported] = [0, 0];
  const count = (bytes) => {
    loaded += bytes;
    if (performance.now() - reported < PROGRESS && loaded < total) return;
    reported = performance.now();
    send("progress", { loaded, total });
  };
  return Promise.all(responses.map((response) => read(response, count)));
}

async function request(path) {
  const response = await fetch(path);
  if (response.ok) return response;
  throw new Error(`${path} cannot be loaded: the server answers ${response.status}.`);
}

async function read(response, count) {
  const counter = new TransformStream({
    transform(chunk, controller) {
      count(chunk.byteLength);
      controller.enqueue(chunk);
    },
  });
  return new Uint8Array(await new Response(response.body.pipeThrough(counter)).arrayBuffer());
}

// Writing

async function write({ prompt, options, maxNewTokens }) {
  const { session, codec, stopIds, positions } = model;
  const promptIds = typeof prompt === "string" ? codec.encode(prompt) : prompt;
  check(promptIds.length, positions);
  stopped = false;
  const halt = async (done) => {
    if (done < promptIds.length) send("prompt", { done, total: promptIds.length });
    await messages();
    return stopped;
  };
  const room = positions - promptIds.length + 1; // the last token needs no position
  const limits = { maxNewTokens: Math.min(maxNewTokens, room), stopIds };
  const [ids, times, text] = [[], [performance.now()], new TextStream(codec)];
  for await (const token of generate(session, promptIds, { options, ...limits, halt })) {
    ids.push(token);
    times.push(performance.now());
    send("piece", { text: stopIds.has(token) ? "" : text.push(token) });
  }
  send("piece", { text: text.end() });
  send("done", { ids, promptLength: promptIds.length, reason: reason(ids, limits), ...seconds(times) });
}

function check(length, positions) {
  if (length === 0) throw new Error("The prompt is empty: this model needs a token to go on from.");
  if (length > positions) throw new Error(`The prompt has ${length} tokens, but the model ${positions} positions.`);
}

function reason(ids, { maxNewTokens, stopIds }) {
  if (stopIds.has(ids.at(-1))) return "end of text";
  return ids.length === maxNewTokens ? "length" : "stopped";
}

/** From the start to the first token, and from there to the last one. */
function seconds([start, first = performance.now(), ...later]) {
  return { promptSeconds: (first - start) / 1000, textSeconds: ((later.at(-1) ?? first) - first) / 1000 };
}

/** Lets waiting messages in, such as "stop": a run's promise alone never does. Unlike a timeout it takes no time. */
function messages() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
