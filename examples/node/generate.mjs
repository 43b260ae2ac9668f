// Greedy generation from a neort bundle with onnxruntime-node, token ids in, token ids out.
//
//     node generate.mjs BUNDLE [--max-new-tokens N] [--logits] ID [ID ...]
//     node generate.mjs BUNDLE --requests requests.json
//
// requests.json: [{"prompt": [ID, ...], "max_new_tokens": N}, ...]. Prints one JSON object per prompt.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";

const PAST = "past_key_values.";
const PRESENT = "present.";

/** The model of a bundle folder. onnxruntime finds weights.data beside model.onnx by itself. */
export async function load(bundle) {
  const session = await ort.InferenceSession.create(join(bundle, "model.onnx"), {
    extra: { session: { x64quantprecision: "1" } }, // exact int8 products on x86 without VNNI; nothing changes elsewhere
  });
  const generation = JSON.parse(readFileSync(join(bundle, "generation_config.json"), "utf8"));
  return { session, stopIds: new Set([generation.eos_token_id ?? []].flat()) };
}

/** One run: `ids` follow on `length` tokens whose keys and values are `past`. Returns logits and the new past. */
async function step(session, ids, length, past) {
  const total = length + ids.length;
  const outputs = await session.run({
    ...past,
    input_ids: int64(ids),
    attention_mask: int64(Array(total).fill(1)), // past and new tokens
    position_ids: int64(ids.map((_, i) => length + i)),
  });
  const { logits, ...present } = outputs;
  for (const tensor of Object.values(past)) tensor.dispose();
  const next = Object.entries(present).map(([name, tensor]) => [name.replace(PRESENT, PAST), tensor]);
  return { logits, past: Object.fromEntries(next) };
}

/** An empty cache: float32 [1, heads, 0, head_dim] for each of the graph's past inputs; its outputs have the sizes. */
function emptyPast(session) {
  const outputs = session.outputMetadata.filter(({ name }) => name.startsWith(PRESENT));
  return Object.fromEntries(
    outputs.map(({ name, shape }) => [
      name.replace(PRESENT, PAST),
      new ort.Tensor("float32", new Float32Array(0), [1, shape[1], 0, shape[3]]),
    ]),
  );
}

/** Yields the most likely tokens after `prompt`, at most `maxNewTokens`, and ends after an end-of-text token. */
export async function* generate({ session, stopIds }, prompt, maxNewTokens) {
  let [ids, length, past] = [prompt, 0, emptyPast(session)];
  for (let count = 0; count < maxNewTokens; count++) {
    const result = await step(session, ids, length, past);
    const scores = lastRow(result.logits);
    const token = argmax(scores);
    yield { token, scores };
    if (stopIds.has(token)) return;
    [ids, length, past] = [[token], length + ids.length, result.past];
  }
}

function int64(numbers) {
  return new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
}

/** Logits [1, S, V] of the last position. */
function lastRow({ data, dims }) {
  return data.subarray(data.length - dims[2]);
}

function argmax(scores) {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i] > scores[best]) best = i;
  return best;
}

function readRequests() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "max-new-tokens": { type: "string", default: "20" },
      requests: { type: "string" },
      logits: { type: "boolean", default: false },
    },
  });
  const [bundle, ...ids] = positionals;
  if (!bundle || (!values.requests && ids.length === 0)) {
    throw new Error("usage: node generate.mjs BUNDLE [--max-new-tokens N] [--logits] ID... | --requests FILE");
  }
  const single = { prompt: ids.map(Number), max_new_tokens: Number(values["max-new-tokens"]) };
  const requests = values.requests ? JSON.parse(readFileSync(values.requests, "utf8")) : [single];
  return { bundle, requests, withLogits: values.logits };
}

async function main() {
  const { bundle, requests, withLogits } = readRequests();
  const model = await load(bundle);
  for (const { prompt, max_new_tokens } of requests) {
    const steps = [];
    for await (const step of generate(model, prompt, max_new_tokens)) steps.push(step);
    const result = { token_ids: steps.map(({ token }) => token) };
    if (withLogits) result.first_logits = Array.from(steps[0].scores);
    console.log(JSON.stringify(result));
  }
}

await main();
