// The page's own modules (examples/browser) in Node.js, where their tests need no browser; one JSON value per line.
//
//     node browser.mjs generate BUNDLE FILE    [{"prompt": [ID, ...], "max_new_tokens": N, "options": {...}}, ...]
//     node browser.mjs probable FILE           [{"logits": [...], "ids": [...], "options": {...}, "points": [...]}, ...]
//     node browser.mjs texts BUNDLE FILE       [TEXT, ...]

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RUNTIME, Sequence, generate, load } from "./model.js";
import { choose, penalize, probable } from "./sampling.js";
import { TextCodec, TextStream } from "./text.js";

const read = (...names) => new Uint8Array(readFileSync(join(...names)));
const json = (...names) => JSON.parse(readFileSync(join(...names), "utf8"));
const print = (value) => console.log(JSON.stringify(value));
const last = process.argv.at(-1);

const commands = {
  async generate(bundle) {
    const files = { wasm: read(RUNTIME), graph: read(bundle, "model.onnx"), weights: read(bundle, "weights.data") };
    const session = await load(files);
    const stopIds = new Set([json(bundle, "generation_config.json").eos_token_id ?? []].flat());
    for (const { prompt, max_new_tokens: maxNewTokens, options } of json(last)) {
      const ids = [];
      for await (const token of generate(session, prompt, { options, maxNewTokens, stopIds })) ids.push(token);
      print({ token_ids: ids, first_logits: Array.from(await new Sequence(session).extend(prompt)) });
    }
  },
  async probable() {
    for (const { logits, ids, options, points } of json(last)) {
      const penalized = penalize(Float32Array.from(logits), ids, options.repetition_penalty ?? 1);
      const drawn = points.map((point) => choose(Float32Array.from(logits), ids, options, () => point));
      print({ probable: probable(penalized, options).map(({ token, probability }) => [token, probability]), drawn });
    }
  },
  async texts(bundle) {
    const codec = new TextCodec(json(bundle, "tokenizer.json"), json(bundle, "tokenizer_config.json"));
    for (const text of json(last)) {
      const [ids, stream] = [codec.encode(text), new TextStream(codec)];
      print({ ids, pieces: [...ids.map((id) => stream.push(id)), stream.end()] });
    }
  },
};

await commands[process.argv[2]](process.argv[3]);
