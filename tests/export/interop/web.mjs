// Prints the logits of a prompt's last position, computed by model.onnx in WebAssembly: node web.mjs BUNDLE ID...

import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as ort from "onnxruntime-web";

const [bundle, ...prompt] = process.argv.slice(2);
const read = (name) => new Uint8Array(readFileSync(join(bundle, name)));
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(read("model.onnx"), {
  executionProviders: ["wasm"],
  externalData: [{ path: "weights.data", data: read("weights.data") }],
});
const int64 = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
const feeds = {
  input_ids: int64(prompt),
  attention_mask: int64(prompt.map(() => 1)),
  position_ids: int64(prompt.map((_, i) => i)),
};
for (const { name, shape } of session.outputMetadata.filter(({ name }) => name.startsWith("present."))) {
  const past = name.replace("present.", "past_key_values.");
  feeds[past] = new ort.Tensor("float32", new Float32Array(0), [1, shape[1], 0, shape[3]]);
}
const { data, dims } = (await session.run(feeds)).logits;
console.log(JSON.stringify({ last_logits: Array.from(data.subarray(data.length - dims[2])) }));
