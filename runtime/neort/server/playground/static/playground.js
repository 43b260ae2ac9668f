// The page: models, key, lanes, keys of the keyboard, and the link that holds the options.

import { Lane } from "./lane.js";
import { ask, Failure } from "./stream.js";

const part = (id) => document.getElementById(id);
const WIDE = matchMedia("(min-width: 56rem)");

let key = ""; // in memory only: in no link, no storage
let models = [];
let linkIsRead = false;
const lanes = [];

const page = {
  key: () => key,
  prompt: () => part("prompt").value,
  changed: showRunning,
  say: (sentence) => (part("status").textContent = sentence),
  asksForKey,
  copy,
};

// Models and key

async function loadModels() {
  part("notice").hidden = true;
  try {
    const { data } = await (await ask("v1/models", { key })).json();
    models = data.map((each) => each.id);
    part("access").hidden = true;
    if (!models.length) throw new Failure("The server has no models.");
    for (const lane of lanes) lane.models = models;
    if (!linkIsRead) readLink();
  } catch (error) {
    if (error.status === 401) return asksForKey();
    part("notice").hidden = false;
    const sentence = error instanceof Failure ? error.message : "The server's list of models cannot be read.";
    part("notice").querySelector("p").textContent = sentence + (error.detail ? ` ${error.detail}` : "");
  }
}

function asksForKey() {
  const label = document.querySelector("label[for=key]");
  label.textContent = key ? "The server does not take this API key." : "This server asks for an API key.";
  part("access").hidden = false;
  part("key").focus();
  page.say(label.textContent);
}

function useKey(event) {
  event.preventDefault();
  key = part("key").value.trim();
  part("key").value = "";
  loadModels();
}

// Lanes

function addLane() {
  const lane = new Lane(part("lane"), `lane${lanes.length + 1}`, page);
  lane.models = models;
  lanes.push(lane);
  part("lanes").append(lane.element);
  return lane;
}

/** One lane or two. The second one begins with the next model, if there is one, and with the first one's options. */
function setCompared(compared) {
  part("compare").setAttribute("aria-pressed", String(compared));
  document.querySelector("main").className = compared ? "double" : "single";
  if (compared && lanes.length === 1) {
    const lane = addLane();
    lane.model = models[(models.indexOf(lanes[0].model) + 1) % models.length];
    lane.take(lanes[0].options);
  }
  while (!compared && lanes.length > 1) {
    const lane = lanes.pop();
    lane.stop();
    lane.element.remove();
  }
  for (const lane of lanes) lane.unfolded = WIDE.matches && !compared;
  showRunning();
}

const running = () => lanes.some((lane) => lane.running);

function showRunning() {
  const button = part("generate");
  button.textContent = running() ? "Stop" : "Generate";
  button.classList.toggle("stops", running());
}

function generate() {
  if (running()) return;
  if (!models.length) return loadModels();
  page.say("Generating.");
  for (const lane of lanes) lane.generate();
}

function stop() {
  for (const lane of lanes) lane.stop();
}

// The link

function currentLink() {
  const link = new URLSearchParams();
  lanes.forEach((lane, i) => {
    const prefix = i ? "b." : "";
    link.set(`${prefix}model`, lane.model);
    for (const [name, text] of lane.options) link.set(prefix + name, text);
  });
  if (lanes.length > 1) link.set("compare", "1");
  if (part("with-prompt").checked) link.set("prompt", part("prompt").value);
  return `${location.origin}${location.pathname}#${link}`;
}

/** Takes what the address holds after "#". Nothing is run. */
function readLink() {
  linkIsRead = true;
  const link = new URLSearchParams(location.hash.slice(1));
  if (![...link].length) return;
  setCompared(link.get("compare") === "1");
  if (link.has("prompt")) part("prompt").value = link.get("prompt");
  let left = 0;
  lanes.forEach((lane, i) => {
    const own = [...link].filter(([name]) => !["compare", "prompt"].includes(name) && name.startsWith("b.") === (i === 1));
    const options = own.map(([name, text]) => [i ? name.slice(2) : name, text]);
    const model = options.find(([name]) => name === "model")?.[1];
    if (model !== undefined) lane.model = model;
    left += lane.take(options.filter(([name]) => name !== "model"));
    if (model !== undefined && lane.model !== model) left += 1;
  });
  if (left) page.say(`${left} of the link's options cannot be used here.`);
}

async function copy(text, button) {
  const name = button.dataset.name ?? (button.dataset.name = button.textContent);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // pages that came over http from another machine have no clipboard
  }
  button.textContent = "Copied";
  page.say("Copied.");
  setTimeout(() => (button.textContent = name), 1500);
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}

// Events

function listen() {
  part("generate").addEventListener("click", () => (running() ? stop() : generate()));
  part("compare").addEventListener("click", () => setCompared(lanes.length === 1));
  part("reload").addEventListener("click", loadModels);
  part("access").addEventListener("submit", useKey);
  part("tint").addEventListener("change", ({ target }) => document.body.classList.toggle("plain", !target.checked));
  part("share").addEventListener("click", () => {
    part("with-prompt").checked = false;
    part("link").value = currentLink();
    part("sharing").showModal();
  });
  part("with-prompt").addEventListener("change", () => (part("link").value = currentLink()));
  part("copy-link").addEventListener("click", ({ target }) => copy(part("link").value, target));
  part("close-sharing").addEventListener("click", () => part("sharing").close());
  part("link").addEventListener("focus", ({ target }) => target.select());
  addEventListener("hashchange", readLink);
  addEventListener("keydown", (event) => {
    if (event.isComposing || part("sharing").open) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      generate();
    } else if (event.key === "Escape") {
      const closed = lanes.filter((lane) => lane.closeCard());
      if (!closed.length || running()) stop();
    }
  });
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) part("modifier").textContent = "⌘";
addLane().unfolded = WIDE.matches;
listen();
showRunning();
loadModels();
