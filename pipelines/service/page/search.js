// The search page: searches by sentence or photo, and shows results, explanations, the service and errors.

import { ServiceError, request, useToken } from "./api.js";
import { Frame, Words, captionCard, element, levels, photoCard } from "./results.js";

const SERVICE_EVERY_MS = 10_000;
const at = (id) => document.getElementById(id);
const words = new Words(at("words"), at("attended"));
const HINT = at("attended").textContent;

let repeat = null; // the last action, for "Try again" and after a token was given
let running = new AbortController();
let urls = []; // of the photos that are shown, revoked by the next search

// Runs an action; the one before it is aborted. Errors become messages.
async function run(action) {
  repeat = () => run(action);
  running.abort();
  running = new AbortController();
  const { signal } = running;
  at("problem").textContent = "";
  at("again").hidden = true;
  at("results").ariaBusy = "true";
  try {
    await action(signal);
  } catch (error) {
    if (!signal.aborted) showError(error);
  } finally {
    if (!signal.aborted) at("results").ariaBusy = "false";
  }
}

function showError(error) {
  at("status").textContent = "";
  if (error instanceof ServiceError && error.status === 401) {
    askToken(error.message);
    return;
  }
  if (!(error instanceof ServiceError)) console.error(error);
  at("problem").textContent = error instanceof ServiceError ? error.message : `The page has a defect: ${error}`;
  at("again").hidden = error.status > 0 && error.status < 500 && error.status !== 429;
}

function askToken(message) {
  at("access").hidden = false;
  at("problem").textContent = message;
  at("token").focus();
}

const waiting = (seconds) => (at("status").textContent = `The service is busy; trying again in ${seconds} s.`);

function clearResults() {
  urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  observer.disconnect();
  words.show([], []);
  at("attention").hidden = at("asked").hidden = true;
  at("results").replaceChildren();
}

function urlOf(blob) {
  urls.push(URL.createObjectURL(blob));
  return urls.at(-1);
}

// Searches, shows latency and number of results, and returns the document of the service.
async function search(path, options, signal) {
  at("status").textContent = "Searching ...";
  const start = performance.now();
  const found = await (await request(path, options, signal, waiting)).json();
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  showNames(found);
  at("latency").textContent = `${found.seconds.toFixed(2)} s in the service, ${seconds} s in all`;
  const what = found.gallery === "photos" ? "photos" : "captions";
  const partial = " A part of the index did not respond in time, so results may be missing.";
  at("status").textContent = (found.hits.length ? `${found.hits.length} ${what}.` : `No ${what} were found.`)
    + (found.partial ? partial : "");
  at("results").className = what;
  return found;
}

const json = (fields) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(fields),
});

async function searchSentence(sentence, signal) {
  clearResults();
  const found = await search("/search", json({ sentence, k: Number(at("count").value) }), signal);
  const frames = [];
  for (const hit of found.hits) {
    const frame = new Frame(hit.captions[0] ?? hit.source);
    frames.push(frame);
    const card = photoCard(hit, frame);
    loaders.set(card, () => loadPhoto(sentence, hit, card, frame, frames, signal));
    at("results").append(card);
    observer.observe(card);
  }
}

// Loads thumbnails and explanations of results when they come into view.
const loaders = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      observer.unobserve(target);
      loaders.get(target)();
    }
  },
  { rootMargin: "200px" },
);

async function loadPhoto(sentence, hit, card, frame, frames, signal) {
  const { key, dataset } = hit;
  const thumbnail = request(`/photo?${new URLSearchParams({ key, dataset })}`, {}, signal).then(async (response) => {
    const size = ["Photo-Width", "Photo-Height"].map((name) => Number(response.headers.get(name)));
    await frame.show(urlOf(await response.blob()), ...size);
  });
  const explanation = request("/explain", json({ sentence, key, dataset }), signal).then(async (response) => {
    frame.explanation = (await response.json()).explanation;
    card.append(levels(frame.explanation));
    if (at("attention").hidden) showWords(frame.explanation.words, frames);
  });
  thumbnail.catch((error) => signal.aborted || frame.showProblem(error.message)).then(() => words.update());
  explanation.then(() => words.update()).catch((error) => {
    if (!signal.aborted) card.append(element("small", { textContent: `No explanation: ${error.message}` }));
  });
}

function showWords(found, frames) {
  at("attention").hidden = false;
  at("attended").textContent = HINT;
  words.show(found, frames);
}

async function searchPhoto(file, signal) {
  clearResults();
  const body = { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } };
  const frame = new Frame(`Your photo ${file.name}`);
  at("asked").replaceChildren(frame.node);
  at("asked").hidden = false;
  frame.show(urlOf(file)).catch(() => frame.showProblem("the browser cannot show it"));
  const found = await search(`/search?k=${at("count").value}`, body, signal);
  for (const hit of found.hits) {
    const explain = (card) => run((later) => explainCaption(hit.captions[0], body, frame, card, later));
    at("results").append(captionCard(hit, explain));
  }
}

async function explainCaption(sentence, body, frame, card, signal) {
  const response = await request(`/explain?${new URLSearchParams({ sentence })}`, body, signal, waiting);
  frame.explanation = (await response.json()).explanation;
  card.querySelector(".levels")?.remove();
  card.append(levels(frame.explanation));
  showWords(frame.explanation.words, [frame]);
  words.node.querySelector("button")?.focus();
}

function showNames({ model, index, links = null }) {
  if (at("model").textContent !== model || links) {
    const link = links?.model;
    at("model").replaceChildren(link ? element("a", { href: link, textContent: model }) : model);
  }
  at("index").textContent = index;
}

// Shows what is served. Without the token, the service states only whether it is healthy.
async function showService() {
  try {
    const about = await (await request("/healthz")).json();
    if (!about.model) return;
    showNames({ ...about.names, links: about.links });
    at("items").textContent = Object.entries(about.items).map(([name, n]) => `${n} ${name}`).join(", ");
    at("notice").textContent = about.problem ? "The champion is not served yet; /healthz states the reason." : "";
  } catch (error) {
    at("notice").textContent = error.message;
  }
}

at("query").addEventListener("submit", (event) => {
  event.preventDefault();
  const sentence = at("sentence").value.trim();
  at("photo").value = "";
  if (sentence) run((signal) => searchSentence(sentence, signal));
  else at("problem").textContent = "Type a sentence, or choose a photo.";
});
at("photo").addEventListener("change", () => {
  const [file] = at("photo").files;
  if (file) run((signal) => searchPhoto(file, signal));
});
at("again").addEventListener("click", () => repeat?.());
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("token").value);
  at("access").hidden = true;
  at("sentence").focus();
  showService();
  repeat?.();
});
showService();
setInterval(showService, SERVICE_EVERY_MS);
