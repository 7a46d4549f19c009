// The live page: polls the service each second, and shows when it does not respond.

import * as cards from "./cards.js";
import { say, span } from "./elements.js";
import { loadPanels, showEvents, showHealth, showPanels, showSummary } from "./panels.js";
import { load, mayOperate, onChange } from "./token.js";

const EVERY = 1000; // milliseconds
const HIDDEN = 5000; // milliseconds, while the page is hidden
const TIMEOUT = 3000; // milliseconds for a response
const LOCKED = "it shows the breakers to those who have the operators' token";

const byId = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

let answered = null; // time of the last response
let failed = null; // error of the last poll, null if it succeeded
let stale = false; // true if the page shows old data
let timer = null;

async function poll() {
  clearTimeout(timer);
  timer = null;
  let news = [];
  try {
    const answer = await load(TIMEOUT);
    if (answer.status === 403) throw new Error(LOCKED);
    if (!answer.ok) throw new Error(`it responds with ${answer.status}`);
    news = show(await answer.json());
    failed = null;
  } catch (error) {
    // Only errors of the service are shown: the messages of browsers differ.
    failed = error.message === LOCKED || error.message.startsWith("it responds") ? `: ${error.message}` : "";
  }
  clock(news);
  timer = setTimeout(poll, document.hidden ? HIDDEN : EVERY);
}

// Shows a response. Returns sentences about changes.
function show(data) {
  answered = seconds();
  const operator = mayOperate(data.operator);
  const news = cards.show(byId("cards"), data, operator, answered);
  showSummary(data);
  showHealth(data);
  showEvents(data.events);
  showPanels(data, answered, operator);
  return news;
}

// Advances the countdowns between two responses, and announces changes to screen readers.
function clock(news = []) {
  const before = stale;
  const ago = answered === null ? null : seconds() - answered;
  // A request may hang: the page is stale before the timeout.
  stale = failed !== null || (ago !== null && ago > EVERY / 1000 + 2 && !document.hidden);
  document.body.classList.toggle("stale", stale);
  byId("banner").hidden = !stale;
  if (stale) {
    say(byId("silence"), (ago === null ? "No response yet" : `No response for ${span(ago)}`) + (failed ?? ""));
    say(byId("last"), ago === null ? "" : `The page shows the state at ${new Date(Date.now() - ago * 1000).toLocaleTimeString([], { hour12: false })}.`);
  }
  if (ago !== null) cards.tick(ago, stale);
  const silence = stale === before ? [] : [stale ? "The service does not respond: the page shows old data" : "The service responds again"];
  const sentences = [...silence, ...news];
  if (sentences.length) say(byId("announcements"), sentences.join(". "));
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer !== null) poll();
});
onChange(() => {
  if (timer !== null) poll();
});
setInterval(() => clock(), 250);
await loadPanels();
poll();
