// The live page: asks the service each second what is so, and says when it does not answer.

import * as cards from "./cards.js";
import { say, span } from "./elements.js";
import { loadPanels, showEvents, showHealth, showPanels, showSummary } from "./panels.js";
import { mayOperate, onChange } from "./token.js";

const EVERY = 1000; // milliseconds
const HIDDEN = 5000; // while nobody looks
const PATIENCE = 3000; // an answer that takes longer is none

const byId = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

let answered = null; // when the last answer came
let failed = null; // what is wrong with the service, null if it answers
let stale = false; // whether what the page shows is old
let timer = null;

async function poll() {
  clearTimeout(timer);
  timer = null;
  let news = [];
  try {
    const answer = await fetch("dashboard/data", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    news = show(await answer.json());
    failed = null;
  } catch (error) {
    // Only what the service itself said is worth showing: browsers word the rest as they please.
    failed = error.message.startsWith("it answers") ? `: ${error.message}` : "";
  }
  clock(news);
  timer = setTimeout(poll, document.hidden ? HIDDEN : EVERY);
}

// Shows an answer. Returns sentences on what has changed.
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

// Keeps the seconds going between two answers, and tells those who do not see the page what is new.
function clock(news = []) {
  const before = stale;
  const ago = answered === null ? null : seconds() - answered;
  // A request under way may hang: its silence counts before it is given up.
  stale = failed !== null || (ago !== null && ago > EVERY / 1000 + 2 && !document.hidden);
  document.body.classList.toggle("stale", stale);
  byId("banner").hidden = !stale;
  if (stale) {
    say(byId("silence"), (ago === null ? "No answer yet" : `No answer for ${span(ago)}`) + (failed ?? ""));
    say(byId("last"), ago === null ? "" : `What you see was so at ${new Date(Date.now() - ago * 1000).toLocaleTimeString([], { hour12: false })}.`);
  }
  if (ago !== null) cards.tick(ago, stale);
  const silence = stale === before ? [] : [stale ? "The service does not answer: what the page shows is old" : "The service answers again"];
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
