// Text to token ids and back, by the bundle's tokenizer.json.

import { Tokenizer } from "./node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs";

const CUT = "\uFFFD"; // what the bytes of half a character are shown as

/** Both arguments are the contents of the files tokenizer.json and tokenizer_config.json. */
export class TextCodec {
  #tokenizer;

  constructor(tokenizer, config) {
    this.#tokenizer = new Tokenizer(tokenizer, config);
  }

  encode(text) {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The text of tokens, without special ones. */
  decode(ids) {
    if (ids.length === 0) return ""; // which the library refuses
    return this.#tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }
}

/** The text of tokens that come one by one: whole characters only. */
export class TextStream {
  #codec;
  #pending = []; // tokens whose text ends within a character

  constructor(codec) {
    this.#codec = codec;
  }

  push(id) {
    this.#pending.push(id);
    return this.#codec.decode(this.#pending).endsWith(CUT) ? "" : this.end();
  }

  /** What is left at the end of the text. */
  end() {
    return this.#codec.decode(this.#pending.splice(0));
  }
}
