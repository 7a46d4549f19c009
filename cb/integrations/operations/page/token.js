// The operators' token, if the service needs one, and the data that it may show. Only this page has it, until it is locked, closed or reloaded.

import { say } from "./elements.js";

const byId = (id) => document.getElementById(id);
const DATA = new URL("data", import.meta.url);
let token = null;
let unlocked = false; // by the token
let asked = false; // true after the page has asked for the token by itself

// Returns the headers that carry the token.
export const credentials = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

// Returns true if this page may control breakers. `accepted` is true if the service says so of the last request.
export function mayOperate(accepted) {
  unlocked = accepted && token !== null;
  byId("lock").hidden = accepted && token === null;
  say(byId("lock"), unlocked ? "Lock controls" : "Unlock controls");
  return accepted;
}

// Forgets a token that the service no longer accepts.
export function forget() {
  token = null;
}

// Calls a function whenever the token is set or forgotten.
export function onChange(act) {
  byId("lock").addEventListener("click", () => {
    if (!unlocked) return ask();
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

// Returns the response with the data of the page. Asks for the token, once, if the service shows nothing without it.
export async function load(milliseconds) {
  const answer = await request(credentials(), milliseconds);
  if (answer.status === 403) {
    mayOperate(false);
    if (!asked) ask();
    asked = true;
  }
  return answer;
}

const request = (headers, milliseconds) => fetch(DATA, { headers, cache: "no-store", signal: AbortSignal.timeout(milliseconds) });

function ask() {
  say(byId("token-error"), "");
  byId("token").showModal();
  byId("token-value").focus();
}

// Keeps a token if the service accepts it. Returns an error message, or an empty string.
async function take(offered) {
  if (!/^[!-~]+$/.test(offered)) return "A token has printable ASCII characters only.";
  try {
    const answer = await request({ Authorization: `Bearer ${offered}` }, 5000);
    if (answer.status === 403 || (answer.ok && !(await answer.json()).operator)) return "This is not the operators' token.";
    if (!answer.ok) return `The service responded with ${answer.status}.`;
    token = offered;
    return "";
  } catch {
    return "The service did not respond.";
  }
}
