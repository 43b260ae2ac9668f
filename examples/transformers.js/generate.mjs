// Greedy generation from a neort bundle with transformers.js: texts in, texts out, all of them as one batch.
//
//     node generate.mjs BUNDLE [--max-new-tokens N] TEXT [TEXT ...]
//
// Prints one JSON object per text.

import { basename, dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { AutoModelForCausalLM, AutoTokenizer, env } from "@huggingface/transformers";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { "max-new-tokens": { type: "string", default: "20" } },
});
const [bundle, ...texts] = positionals;
if (texts.length === 0) throw new Error("usage: node generate.mjs BUNDLE [--max-new-tokens N] TEXT...");

env.allowRemoteModels = false;
env.localModelPath = dirname(resolve(bundle)); // models are named relative to this folder
const name = basename(resolve(bundle));

const tokenizer = await AutoTokenizer.from_pretrained(name);
const model = await AutoModelForCausalLM.from_pretrained(name, {
  subfolder: "", // model.onnx lies in the bundle itself, not in a folder onnx
  dtype: "fp32", // means model.onnx without a suffix, whatever its weights are
  session_options: { extra: { session: { x64quantprecision: "1" } } }, // exact int8 products on x86 without VNNI too
});

tokenizer.padding_side = "left";
tokenizer.pad_token_id ??= 0; // GPT-Neo's tokenizer has none; the attention mask hides whatever stands there
const inputs = tokenizer(texts, { padding: true });
const outputs = await model.generate({ ...inputs, max_new_tokens: Number(values["max-new-tokens"]), do_sample: false });

const [masks, rows, width] = [inputs.attention_mask.tolist(), outputs.tolist(), inputs.input_ids.dims[1]];
for (const [i, row] of rows.entries()) {
  const ids = row.map(Number);
  const promptIds = ids.slice(0, width).filter((_, j) => masks[i][j]);
  const tokenIds = ids.slice(width);
  const text = tokenizer.decode(tokenIds, { skip_special_tokens: true });
  console.log(JSON.stringify({ prompt_ids: promptIds, token_ids: tokenIds, text }));
}
