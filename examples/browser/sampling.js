// From logits to a token, by the options of a generation_config.json that most of them hold, in transformers' order:
// repetition_penalty; with do_sample also temperature, top_k and top_p. Numbers, nothing else.

const TOP_K = 50; // transformers' where a file does not say

/** The token to follow `ids`. `logits` are float32 [V], `random()` a number from 0 to 1 without 1. */
export function choose(logits, ids, options, random = Math.random) {
  const penalized = penalize(logits, ids, options.repetition_penalty ?? 1);
  if (!options.do_sample) return argmax(penalized);
  const candidates = probable(penalized, options);
  let point = random();
  for (const { token, probability } of candidates) {
    point -= probability;
    if (point < 0) return token;
  }
  return candidates[0].token; // the probabilities' sum was rounded below 1
}

/** What sampling draws from: [{token, probability}, ...], the most probable first. The penalty is already applied. */
export function probable(logits, options) {
  const { temperature = 1, top_k = TOP_K, top_p = 1 } = withoutNulls(options);
  const least = top_k > 0 && top_k < logits.length ? logits.slice().sort()[logits.length - top_k] : -Infinity;
  const tokens = [...logits.keys()].filter((token) => logits[token] >= least);
  tokens.sort((a, b) => logits[b] - logits[a] || b - a);
  const weights = tokens.map((token) => Math.exp((logits[token] - logits[tokens[0]]) / temperature));
  const kept = nucleus(weights, top_p);
  const sum = total(weights.slice(0, kept));
  return tokens.slice(0, kept).map((token, i) => ({ token, probability: weights[i] / sum }));
}

/** Divides the positive logits of tokens seen so far by the penalty, and multiplies the negative ones, each once. */
export function penalize(logits, ids, penalty) {
  if (penalty === 1) return logits;
  const factor = Math.fround(penalty);
  const penalized = logits.slice();
  for (const id of new Set(ids)) penalized[id] = logits[id] < 0 ? logits[id] * factor : logits[id] / factor;
  return penalized;
}

/** How many of the descending weights it takes to reach the share `topP` of their sum; one at least. */
function nucleus(weights, topP) {
  if (topP >= 1) return weights.length;
  const aim = topP * total(weights);
  let sum = 0;
  return Math.max(1, weights.findIndex((weight) => (sum += weight) >= aim) + 1);
}

/** Of equal logits the first. */
function argmax(logits) {
  return logits.reduce((best, logit, token) => (logit > logits[best] ? token : best), 0);
}

function total(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** A null top_k is off; other options are as if they were not there. */
function withoutNulls(options) {
  const set = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null));
  return options.top_k === null ? { ...set, top_k: 0 } : set;
}
