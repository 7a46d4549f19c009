// The controls of the operators.

import { element, say } from "./elements.js";
import { credentials, forget } from "./token.js";

const byId = (id) => document.getElementById(id);
const ACTIONS = {
  "force-open": ["Force open", "Rejects every call until the circuit is reset."],
  disable: ["Disable", "Admits every call and counts none."],
  "metrics-only": ["Metrics only", "Admits and counts every call, and only reports when the circuit would open."],
  reset: ["Reset", "Closes the circuit with an empty window."],
};
const api = document.querySelector('meta[name="api"]').content; // relative to the page
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
  asked = `${api}/${action}?name=${encodeURIComponent(name)}`; // proxies change slashes in a path
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

// Sends a POST. Returns an error message, or an empty string.
export async function post(path, body) {
  try {
    const headers = { "Content-Type": "application/json", ...credentials() };
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(5000) });
    if (answer.ok) return "";
    if (answer.status === 401) forget();
    const problem = await answer.json().catch(() => ({}));
    return problem.detail ?? `The service responded with ${answer.status}.`;
  } catch {
    return "The service did not respond.";
  }
}
