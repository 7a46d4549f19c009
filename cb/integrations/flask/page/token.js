// The operators' token, where the service wants one: this page alone has it, until it is locked, left or loaded anew.

import { say } from "./elements.js";

const byId = (id) => document.getElementById(id);
let token = null;

// Returns the headers of a request that the token is shown with.
export const credentials = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

// Takes whether the service lets everybody steer. Returns whether this page may.
export function mayOperate(everybody) {
  byId("lock").hidden = everybody;
  say(byId("lock"), token === null ? "Unlock controls" : "Lock controls");
  return everybody || token !== null;
}

// Forgets what the service does not accept any more.
export function forget() {
  token = null;
}

// Calls a function whenever the page comes to have the token, or has it no more.
export function onChange(act) {
  byId("lock").addEventListener("click", () => {
    if (token === null) return ask();
    forget();
    act();
  });
  byId("token-no").addEventListener("click", () => byId("token").close());
  byId("token").addEventListener("close", () => { byId("token-value").value = ""; });
  byId("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const error = await take(byId("token-value").value.trim());
    say(byId("token-error"), error);
    if (error) return;
    byId("token").close();
    act();
  });
}

function ask() {
  say(byId("token-error"), "");
  byId("token").showModal();
  byId("token-value").focus();
}

// Keeps a token that the service accepts. Returns what is wrong with another, or nothing.
async function take(offered) {
  if (!/^[!-~]+$/.test(offered)) return "A token has no such characters.";
  try {
    const headers = { Authorization: `Bearer ${offered}` };
    const answer = await fetch("api/v1/circuit-breaker/events?limit=0", { headers, signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return "This is not the token of the operators.";
    if (!answer.ok) return `The service answered ${answer.status}.`;
    token = offered;
    return "";
  } catch {
    return "The service did not answer.";
  }
}
