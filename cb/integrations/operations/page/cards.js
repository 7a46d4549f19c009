// One card per breaker, open circuits first.

import { buttons } from "./controls.js";
import { arrange, drawing, element, facts, milliseconds, percent, say, set, span, word } from "./elements.js";
import { Rates, Sparkline } from "./rates.js";

const TROUBLE = ["OPEN", "FORCED_OPEN", "HALF_OPEN", "DISABLED", "METRICS_ONLY", "CLOSED"];
const FACTS = {
  p50: "p50",
  p95: "p95",
  p99: "p99",
  flight: "in flight",
  slow: "slow",
  rejected: "rejected",
};

const cards = new Map();

// Shows the breakers of a response. Returns a sentence for each state that has changed since the last one.
export function show(parent, data, operator, now) {
  const news = [];
  for (const [name, breaker] of Object.entries(data.breakers)) {
    if (!cards.has(name)) cards.set(name, new Card(name));
    const card = cards.get(name);
    if (card.state && card.state !== breaker.state) news.push(`${name} is ${word(breaker.state)}, was ${word(card.state)}`);
    card.show(breaker, data.health[name], operator, now);
  }
  for (const name of cards.keys()) if (!(name in data.breakers)) cards.delete(name);
  const sorted = [...cards.values()].sort((one, other) => one.rank - other.rank || (one.name < other.name ? -1 : 1));
  arrange(parent, sorted.map((card) => card.node));
  return news;
}

// Counts down the waits of a response that is `ago` seconds old.
export function tick(ago, stale) {
  for (const card of cards.values()) card.tick(ago, stale);
}

// The last failure in words; kinds in lower case have no exception, and their message says all.
function failure(last) {
  if (!last) return "";
  const { type, status, message, worker } = last;
  const named = /^[a-z]/.test(type) && message ? message : [type, message].filter(Boolean).join(": ");
  const code = status && !message.includes(status) ? `, status ${status}` : "";
  return `Last failure: ${named}${code}${worker && type !== "worker_ended" ? ` (worker ${worker})` : ""}`;
}

class Card {
  constructor(name) {
    this.name = name;
    this.rates = new Rates();
    this.sparkline = new Sparkline();
    this.use = drawing("use", {});
    this.word = element("span", {});
    this.circle = drawing("circle", { cx: 36, cy: 36, r: 16 });
    this.rate = drawing("text", { x: 36, y: 41 });
    this.bar = drawing("rect", { class: "bar", height: 6, width: 0 });
    this.limit = drawing("path", { class: "limit" });
    this.meter = drawing("svg", { class: "meter", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      drawing("rect", { class: "ground", width: 100, height: 6 }), this.bar, this.limit);
    this.failing = element("span", { class: "failing" });
    this.threshold = element("span", {});
    this.wait = element("p", { class: "wait" });
    this.why = element("p", { class: "why" });
    this.failure = element("p", { class: "failure" });
    this.alarm = element("p", { class: "error" });
    this.controls = element("div", { class: "buttons", hidden: "" });
    const [list, values] = facts(FACTS);
    this.values = values;
    this.node = element("article", { "aria-label": name },
      element("header", {},
        element("h3", {}, name),
        element("p", { class: "state" }, drawing("svg", { "aria-hidden": "true" }, this.use), this.word)),
      element("div", { class: "traffic" },
        drawing("svg", { class: "size", viewBox: "0 0 72 72", role: "img" }, this.circle, this.rate), this.sparkline.node),
      this.meter, element("p", { class: "numbers" }, this.failing, this.threshold),
      this.wait, list, this.why, this.failure, this.alarm, this.controls);
  }

  show(seen, health, operator, now) {
    this.seen = seen;
    this.state = seen.state;
    const { window: counts, config, totals, latency_ms: latency } = seen;
    this.rates.add(now, totals.requests + totals.rejected + totals.full, totals.failures + totals.rejected + totals.full);
    set(this.node, "data-state", seen.state);
    set(this.use, "href", `#icon-${seen.state.toLowerCase()}`);
    this.#showRate();
    this.#showMeter(counts, config);
    say(this.values.p50, milliseconds(latency.p50));
    say(this.values.p95, milliseconds(latency.p95));
    say(this.values.p99, milliseconds(latency.p99));
    say(this.values.flight, seen.limit ? `${seen.in_flight} of ${seen.limit}` : seen.in_flight);
    say(this.values.slow, counts.requests ? percent(counts.slow_call_rate) : "–");
    say(this.values.rejected, totals.rejected + totals.full);
    say(this.why, seen.why);
    say(this.failure, counts.failures || seen.state === "OPEN" ? failure(seen.last_failure) : "");
    say(this.alarm, health?.health === "DOWN" ? `Its health check failed ${span(health.checked_seconds_ago)} ago.` : "");
    if (operator && !this.controls.children.length) this.controls.append(...buttons(this.name));
    this.controls.hidden = !operator;
    // Closed circuits are ordered by failure rate, after those whose health check has failed.
    this.rank = TROUBLE.indexOf(seen.state) - counts.failure_rate / 2 - (health?.health === "DOWN" ? 0.4 : 0);
  }

  #showRate() {
    const rate = this.rates.present(0);
    const shown = rate === null ? "–" : rate >= 9.95 ? Math.round(rate) : rate.toFixed(1);
    set(this.circle, "r", (16 + 9 * Math.log10(1 + Math.min(rate ?? 0, 100))).toFixed(1));
    say(this.rate, shown);
    set(this.rate.parentNode, "aria-label", `${shown} calls per second`);
    this.sparkline.draw(this.rates.course(0), this.rates.course(1));
  }

  #showMeter(counts, config) {
    const limit = config.failure_rate_threshold;
    const enough = counts.requests >= config.minimum_requests;
    set(this.bar, "width", (counts.failure_rate * 100).toFixed(1));
    set(this.limit, "d", limit ? `M${limit * 100} 0V6` : "");
    say(this.failing, `${percent(counts.failure_rate)} failed`);
    const opens = limit ? `, opens at ${percent(limit)}` : "";
    say(this.threshold, enough ? `of ${counts.requests} calls${opens}` : `${counts.requests} of ${config.minimum_requests} calls needed${opens}`);
  }

  tick(ago, stale) {
    const { state, retry_after_seconds: wait, probes } = this.seen;
    say(this.word, stale ? `was ${word(state)}` : word(state));
    const left = wait === null ? null : Math.max(Math.round(wait - ago), 0); // rounded as in the explanation
    const sent = probes ? `Probes: ${probes.taken} of ${this.seen.config.max_requests}` : "";
    const next = left === null ? sent : left > 0 ? `Next probe in ${span(left)}` : "Next probe is due";
    say(this.wait, state === "FORCED_OPEN" && left === null ? "Until reset" : next);
  }
}
