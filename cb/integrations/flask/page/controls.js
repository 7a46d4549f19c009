// What an operator can do.

import { element, percent, say, set } from "./elements.js";
import { credentials, forget } from "./token.js";

const byId = (id) => document.getElementById(id);
const ACTIONS = {
  "force-open": ["Force open", "Refuses every call until it is reset."],
  close: ["Close", "Admits calls again, and begins to count anew."],
  disable: ["Disable", "Admits every call and counts none."],
  "metrics-only": ["Shadow", "Admits every call, counts, and only says what it would do."],
  reset: ["Reset", "Gives the circuit back to its own judgement."],
};
let asked = null;

// Returns the buttons of a breaker.
export function buttons(name) {
  return Object.entries(ACTIONS).map(([action, [label]]) => {
    const button = element("button", { type: "button", "aria-label": `${label}: ${name}` }, label);
    button.addEventListener("click", () => ask(name, action));
    return button;
  });
}

function ask(name, action) {
  const [label, effect] = ACTIONS[action];
  asked = `api/v1/circuit-breaker/${action}?name=${encodeURIComponent(name)}`; // proxies change slashes in a path
  say(byId("question-title"), `${label}: ${name}?`);
  say(byId("question-effect"), effect);
  say(byId("question-yes"), label);
  say(byId("question-error"), "");
  byId("question-reason").value = "";
  byId("question").showModal();
  byId("question-reason").focus();
}

byId("question-no").addEventListener("click", () => byId("question").close());
byId("question-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = await post(asked, { reason: byId("question-reason").value });
  say(byId("question-error"), error);
  if (!error) byId("question").close();
});

// Returns what went wrong, in words, or nothing.
async function post(path, body) {
  try {
    const headers = { "Content-Type": "application/json", ...credentials() };
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(5000) });
    if (answer.ok) return "";
    if (answer.status === 401) forget();
    const problem = await answer.json().catch(() => ({}));
    return problem.detail ?? `The service answered ${answer.status}.`;
  } catch {
    return "The service did not answer.";
  }
}

const rows = new Map();

// Shows what is simulated, and lets an operator change it. To others, what is as it should be is no news.
export function showSimulators(simulators, operator) {
  let shown = false;
  for (const [name, seen] of Object.entries(simulators)) {
    if (!rows.has(name)) {
      rows.set(name, new Simulator(name));
      byId("simulators").append(rows.get(name).node);
    }
    shown = rows.get(name).show(seen, operator) || shown;
  }
  byId("simulators-panel").hidden = !shown;
}

class Simulator {
  constructor(name) {
    this.now = element("span", {});
    this.error = element("span", { class: "error", role: "alert" });
    const field = (label, attributes) => {
      const input = element("input", attributes);
      return [input, element("label", {}, label, input)];
    };
    const [healthy, first] = field("healthy", { type: "checkbox" });
    const [rate, second] = field("fails, %", { type: "number", min: 0, max: 100, step: 1 });
    const [delay, third] = field("takes, ms", { type: "number", min: 0, max: 60000, step: 1 });
    this.fields = { healthy, rate, delay };
    this.touched = false; // what somebody types is not overwritten by what is so
    this.form = element("form", { "aria-label": `simulate failures of ${name}` }, first, second, third,
      element("button", { type: "submit" }, "Apply"), this.error);
    this.form.addEventListener("input", () => { this.touched = true; });
    this.form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const wanted = { is_healthy: healthy.checked, failure_rate: rate.valueAsNumber / 100, response_time_ms: delay.valueAsNumber };
      const error = await post(this.path.slice(1), wanted);
      say(this.error, error);
      this.touched = error !== "";
    });
    this.node = element("div", { class: "simulator" }, element("p", {}, element("strong", {}, name), " ", this.now), this.form);
  }

  show(seen, operator) {
    this.path = seen.path;
    const { healthy, rate, delay } = this.fields;
    if (!this.touched) [healthy.checked, rate.value, delay.value] = [seen.is_healthy, Math.round(seen.failure_rate * 100), seen.response_time_ms];
    const slow = seen.response_time_ms ? `, takes ${seen.response_time_ms} ms more` : "";
    const fails = !seen.is_healthy ? "fails always" : seen.failure_rate ? `fails ${percent(seen.failure_rate)}` : "";
    say(this.now, `${fails}${slow}`.replace(/^, /, "") || "as it is");
    set(this.node, "data-active", fails || slow ? "yes" : "no");
    this.form.hidden = !operator;
    this.node.hidden = !operator && this.node.dataset.active === "no";
    return !this.node.hidden;
  }
}
