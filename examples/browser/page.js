// The page: what is written into it goes to the worker, what the worker sends is shown, as text and never as HTML.

const part = (id) => document.getElementById(id);
const OPTIONS = ["temperature", "top_p", "top_k", "repetition_penalty"]; // as in a generation_config.json
const SAMPLING = ["temperature", "top_p", "top_k"];
const MOST_THREADS = 4;

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
worker.addEventListener("message", ({ data: { type, ...facts } }) => shows[type](facts));
worker.addEventListener("error", () => shows.failed({ sentence: "worker.js does not load: has `npm ci` been run here?" }));
worker.postMessage({ type: "load", threads: threads() });

/** What an address like ?threads=2 says, else half of the CPUs, but one where browsers let no threads share memory. */
function threads() {
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  return crossOriginIsolated ? asked || Math.min(Math.ceil(navigator.hardwareConcurrency / 2), MOST_THREADS) : 1;
}

const shows = {
  progress({ loaded, total }) {
    Object.assign(part("progress"), { value: loaded, max: total });
    say(loaded < total ? `Loading: ${megabytes(loaded)} of ${megabytes(total)} MB.` : "Starting.");
  },
  ready({ name, options, threads }) {
    part("progress").hidden = true;
    part("model").textContent = `${name}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
    for (const id of OPTIONS) part(id).value = options[id] ?? part(id).value;
    part("do_sample").checked = options.do_sample ?? false;
    showSampling();
    showRunning(false);
    say("Ready.");
  },
  prompt: ({ done, total }) => say(`Reading the prompt: ${done} of ${total} tokens.`),
  piece({ text }) {
    part("made").append(text);
    say("Generating.");
  },
  done({ ids, reason, promptSeconds, textSeconds }) {
    const rate = ids.length > 1 ? `${((ids.length - 1) / textSeconds).toFixed(1)} tokens/s` : "";
    const first = ids.length ? `first after ${promptSeconds.toFixed(2)} s` : "";
    part("figures").textContent = [`${ids.length} tokens`, rate, first, reason].filter(Boolean).join(" · ");
    showRunning(false);
    say("Done.");
  },
  failed({ sentence }) {
    part("progress").hidden = true;
    part("failure").textContent = sentence;
    part("failure").hidden = false;
    if (part("model").textContent) showRunning(false); // loaded: another prompt may do
    say("");
  },
};

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  part("given").textContent = part("prompt").value;
  for (const id of ["made", "figures"]) part(id).textContent = "";
  for (const id of ["empty", "failure"]) part(id).hidden = true;
  part("output").hidden = false;
  showRunning(true);
  const options = Object.fromEntries(OPTIONS.map((id) => [id, part(id).valueAsNumber]));
  worker.postMessage({
    type: "generate",
    prompt: part("prompt").value,
    options: { ...options, do_sample: part("do_sample").checked },
    maxNewTokens: part("max_new_tokens").valueAsNumber,
  });
});
part("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !part("generate").disabled) part("form").requestSubmit();
});
part("stop").addEventListener("click", () => worker.postMessage({ type: "stop" }));
part("do_sample").addEventListener("change", showSampling);

function showSampling() {
  for (const id of SAMPLING) part(id).disabled = !part("do_sample").checked;
}

function showRunning(running) {
  part("generate").disabled = running;
  part("stop").disabled = !running;
}

function say(sentence) {
  part("status").textContent = sentence;
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}
