// The panel of the trades.

import { element, facts, say, set, span } from "./elements.js";
import { Rates } from "./rates.js";

export const title = "Trades";

const moves = new Rates();
let values = null;

// Shows the data of a poll.
export function show(body, trades, { now, reveal }) {
  reveal(true);
  if (!values) {
    const names = { pending: "pending", oldest: "oldest pending", audit: "audit behind", notification: "notices behind", rate: "moves a minute", head: "audit head" };
    const [list, nodes] = facts(names, { class: "tiles" });
    values = { ...nodes, none: element("p", { class: "error" }) };
    body.append(values.none, list);
  }
  say(values.none, trades.unavailable ? `Not available: ${trades.unavailable}` : "");
  set(values.head.closest("dl"), "data-known", trades.unavailable ? "no" : "yes");
  if (trades.unavailable) return;
  moves.add(now, trades.audit.entries + (trades.behind.audit?.number ?? 0)); // each transition is counted in one of the two
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
