// What stands around the cards: the summary, health, trades, and the log of changes.

import { element, facts, say, set, span, word } from "./elements.js";
import { Rates } from "./rates.js";

const byId = (id) => document.getElementById(id);
const SIGNS = { UP: "✓", DEGRADED: "!", DOWN: "✕", UNKNOWN: "?" };

export function showSummary(data) {
  const states = Object.values(data.breakers).map((breaker) => breaker.state);
  const counted = ["OPEN", "FORCED_OPEN", "HALF_OPEN", "METRICS_ONLY", "DISABLED", "CLOSED"]
    .map((state) => [state, states.filter((each) => each === state).length])
    .filter(([, number]) => number)
    .map(([state, number]) => `${number} ${word(state)}`);
  say(byId("service"), data.service);
  say(byId("summary"), counted.join(" · ") || "no breakers");
  const bad = states.filter((state) => ["OPEN", "FORCED_OPEN", "HALF_OPEN"].includes(state)).length;
  set(byId("summary"), "data-trouble", bad ? "yes" : "no");
  document.title = bad ? `(${bad}) ${data.service}` : data.service;
  const time = new Date(data.time).toLocaleTimeString([], { hour12: false });
  const about = { "state shared by": { fleet: "the fleet", host: "this host", process: "nobody: one worker" }[data.scope] ?? data.scope, workers: data.workers, "as of": time };
  if (data.fleet) about.fleet = data.fleet.connected ? `${data.fleet.hosts} hosts` : "not reached";
  rebuild(byId("about"), about, () => Object.entries(about).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}

export function showHealth(data) {
  rebuild(byId("health"), Object.entries(data.health).map(([name, each]) => [name, each.status, each.health]), () =>
    Object.entries(data.health).map(([name, each]) =>
      element("li", { "data-status": each.status },
        element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[each.status] ?? "?"),
        element("span", {}, name), " ",
        element("strong", {}, each.status.toLowerCase()),
        element("small", {}, each.health ? `checked ${each.health.toLowerCase()}` : "not checked"))));
}

const moves = new Rates();
let values = null;

export function showTrades(trades, now) {
  byId("trades-panel").hidden = !trades;
  if (!trades) return;
  if (!values) {
    const names = { pending: "pending", oldest: "oldest pending", audit: "audit behind", notification: "notices behind", rate: "moves a minute", head: "audit head" };
    const [list, nodes] = facts(names, { class: "tiles" });
    values = { ...nodes, none: element("p", { class: "error" }) };
    byId("trades").append(values.none, list);
  }
  say(values.none, trades.unavailable ? `Not known: ${trades.unavailable}` : "");
  set(values.head.closest("dl"), "data-known", trades.unavailable ? "no" : "yes");
  if (trades.unavailable) return;
  moves.add(now, trades.audit.entries + (trades.behind.audit?.number ?? 0)); // each move is in one of the two
  const rate = moves.present(0);
  say(values.pending, trades.pending.number);
  say(values.oldest, trades.pending.number ? span(trades.pending.oldest_seconds) : "–");
  for (const [reader, waiting] of Object.entries(trades.behind)) {
    if (values[reader]) say(values[reader], waiting.number ? `${waiting.number} · ${span(waiting.oldest_seconds)}` : "0");
  }
  say(values.rate, rate === null ? "–" : Math.round(rate * 60));
  say(values.head, `${trades.audit.entries} · ${trades.audit.hash.slice(0, 8)}`);
  set(values.head, "title", trades.audit.hash);
}

export function showEvents(events) {
  byId("no-events").hidden = events.length > 0;
  rebuild(byId("events"), events, () => [...events].reverse().map((event) => {
    const at = new Date(event.at);
    const change = element("td", { class: "change", "data-state": event.to }, `${word(event.from)} → `, element("strong", {}, word(event.to)));
    return element("tr", {},
      element("td", {}, element("time", { datetime: event.at, title: at.toLocaleString() }, at.toLocaleTimeString([], { hour12: false }))),
      element("th", { scope: "row" }, event.name), change, element("td", {}, event.reason));
  }));
}

// Makes the children of a node anew, if what they show is not what it was.
function rebuild(node, shown, make) {
  const known = JSON.stringify(shown);
  if (rebuild.known.get(node) === known) return;
  rebuild.known.set(node, known);
  node.replaceChildren(...make());
}
rebuild.known = new WeakMap();
