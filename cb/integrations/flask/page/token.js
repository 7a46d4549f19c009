// The operators' token, if the service needs one. Only this page has it, until it is locked, closed or reloaded.

import { say } from "./elements.js";

const byId = (id) => document.getElementById(id);
let token = null;

// Returns the headers that carry the token.
export const credentials = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

// Returns true if this page may control breakers. `withoutToken` is true if the service needs no token.
export function mayOperate(withoutToken) {
  byId("lock").hidden = withoutToken;
  say(byId("lock"), token === null ? "Unlock controls" : "Lock controls");
  return withoutToken || token !== null;
}

// Forgets a token that the service no longer accepts.
export function forget() {
  token = null;
}

// Calls a function whenever the token is set or forgotten.
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

// Keeps a token if the service accepts it. Returns an error message, or an empty string.
async function take(offered) {
  if (!/^[!-~]+$/.test(offered)) return "A token has printable ASCII characters only.";
  try {
    const headers = { Authorization: `Bearer ${offered}` };
    const answer = await fetch("api/v1/circuit-breaker/events?limit=0", { headers, signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return "This is not the operators' token.";
    if (!answer.ok) return `The service responded with ${answer.status}.`;
    token = offered;
    return "";
  } catch {
    return "The service did not respond.";
  }
}
