// Rates, computed from totals of successive polls, and their course over two minutes.

import { drawing, set } from "./elements.js";

const SECONDS = 120;
const SMOOTH = 5; // seconds over which the current rate is computed
const WIDTH = 240;
const HEIGHT = 44;

export class Rates {
  #seen = []; // [seconds, total, ...], the latest last

  // Adds totals, which only grow. If one decreases, the ledger is a new one, and earlier totals are dropped.
  add(now, ...totals) {
    const last = this.#seen.at(-1);
    if (last && totals.some((total, i) => total < last[i + 1])) this.#seen = [];
    this.#seen.push([now, ...totals]);
    while (this.#seen[0][0] < now - SECONDS - SMOOTH) this.#seen.shift();
  }

  // Returns the rate of a total per second, null before the second poll.
  present(which) {
    const last = this.#seen.at(-1);
    const first = this.#seen.find(([at]) => at >= last[0] - SMOOTH);
    return last && first !== last ? (last[which + 1] - first[which + 1]) / (last[0] - first[0]) : null;
  }

  // Returns [seconds ago, rate] of each step.
  course(which) {
    const now = this.#seen.at(-1)?.[0];
    return this.#seen.slice(1).map((seen, i) => {
      const before = this.#seen[i];
      return [now - seen[0], (seen[which + 1] - before[which + 1]) / (seen[0] - before[0])];
    });
  }
}

// A drawing of two courses: calls as a line, failures and rejections as an area below it.
export class Sparkline {
  constructor() {
    this.#calls = drawing("path", { class: "calls" });
    this.#bad = drawing("path", { class: "bad" });
    const ground = drawing("path", { class: "ground", d: `M0 ${HEIGHT - 1}H${WIDTH}` });
    const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "sparkline" };
    this.node = drawing("svg", { ...size, role: "img" }, ground, this.#bad, this.#calls);
  }

  #calls;
  #bad;

  draw(calls, bad) {
    const top = Math.max(1, ...calls.map(([, rate]) => rate), ...bad.map(([, rate]) => rate));
    const line = (course) => course.map(([ago, rate]) => point(ago, rate / top)).join("L");
    set(this.#calls, "d", calls.length ? `M${line(calls)}` : "");
    set(this.#bad, "d", bad.length ? `M${x(bad[0][0])} ${HEIGHT - 1}L${line(bad)}V${HEIGHT - 1}Z` : "");
    set(this.node, "aria-label", `calls in the last two minutes, at most ${top.toFixed(top < 10 ? 1 : 0)} per second`);
  }
}

const x = (ago) => (WIDTH * (1 - ago / SECONDS)).toFixed(1);
const point = (ago, height) => `${x(ago)} ${(HEIGHT - 1 - height * (HEIGHT - 4)).toFixed(1)}`;
