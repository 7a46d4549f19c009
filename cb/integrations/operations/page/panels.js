// The parts of the page around the cards: the summary, health, the log of changes, and the panels of the app.

import { element, say, set, word } from "./elements.js";

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
  const about = { "state shared by": { fleet: "the fleet", host: "this host", process: "this worker only" }[data.scope] ?? data.scope, workers: data.workers, "as of": time };
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

const added = new Map(); // of the app: by name, the module and the nodes of each panel

// Loads the panels that the app adds. One that cannot be loaded is left out.
export async function loadPanels() {
  const names = document.querySelector('meta[name="panels"]').content.split(" ").filter(Boolean);
  for (const name of names) {
    try {
      const module = await import(`./${name}.js`);
      const body = element("div", { id: name });
      const section = element("section", { id: `${name}-panel`, "aria-labelledby": `${name}-title`, hidden: "" },
        element("h2", { id: `${name}-title` }, module.title), body);
      byId("panels").append(section);
      added.set(name, { module, body, section });
    } catch (error) {
      console.error(`panel ${name}`, error);
    }
  }
}

// Shows the data of the app's panels.
export function showPanels(data, now, operator) {
  for (const [name, { module, body, section }] of added) {
    const reveal = (visible) => { section.hidden = !visible; };
    if (data[name]) module.show(body, data[name], { now, operator, reveal });
    else reveal(false);
  }
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

// Replaces the children of a node if their data has changed.
function rebuild(node, shown, make) {
  const known = JSON.stringify(shown);
  if (rebuild.known.get(node) === known) return;
  rebuild.known.set(node, known);
  node.replaceChildren(...make());
}
rebuild.known = new WeakMap();
