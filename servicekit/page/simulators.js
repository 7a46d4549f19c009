// The panel of the simulated failures.

import { post } from "./controls.js";
import { element, percent, say, set } from "./elements.js";

export const title = "Simulated failures";

const rows = new Map();

// Shows the simulations, and to operators their controls. Inactive ones are hidden from others.
export function show(body, simulators, { operator, reveal }) {
  let shown = false;
  for (const [name, seen] of Object.entries(simulators)) {
    if (!rows.has(name)) {
      rows.set(name, new Simulator(name));
      body.append(rows.get(name).node);
    }
    shown = rows.get(name).show(seen, operator) || shown;
  }
  reveal(shown);
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
    this.touched = false; // input is not overwritten by a poll
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
    this.node = element("div", { class: "entry" }, element("p", {}, element("strong", {}, name), " ", this.now), this.form);
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
