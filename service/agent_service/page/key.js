// The client key: where the agent requires one, the user enters it, and the tab keeps it.
import { announce } from "./announce.js";

const KEY_ITEM = "portside.client-key";
// A key travels in an HTTP header (RFC 9110, 5.5).
const KEY_SHAPE = /^[\x21-\x7e]+$/;

const [form, field, note, forget] = ["key-form", "key", "key-note", "forget-key"].map((id) => document.getElementById(id));
// What the focus moves to when the field for the key is gone.
const next = document.getElementById("message") ?? document.querySelector("main");
// Only clients have a usage.
const usage = document.getElementById("usage-link");

let key = stored();
// What to do once there is a key.
let waiting = null;

/** Returns the key; null if there is none. */
export function clientKey() {
  return key;
}

/** Asks for a key in place of the one in use, and calls `then` once there is one. */
export function askForKey(then) {
  const refused = key !== null;
  setKey(null);
  waiting = then;
  form.hidden = false;
  note.textContent = refused
    ? "The agent did not accept that key. Try another one."
    : "This agent requires a client key. The key is kept in this tab until you close it.";
  field.setAttribute("aria-invalid", String(refused));
  announce(note.textContent);
  field.focus();
}

/** Stops asking for a key. */
export function dismiss() {
  waiting = null;
  form.hidden = true;
}

function useKey(event) {
  event.preventDefault();
  const entered = field.value.trim();
  if (!KEY_SHAPE.test(entered)) {
    note.textContent = "This is not a valid key: keys have no spaces and no accented letters.";
    announce(note.textContent);
    return;
  }
  setKey(entered);
  field.value = "";
  next.focus();
  const then = waiting;
  dismiss();
  then?.();
}

function setKey(value) {
  key = value;
  showWhatNeedsKey();
  try {
    if (key === null) {
      sessionStorage.removeItem(KEY_ITEM);
    } else {
      sessionStorage.setItem(KEY_ITEM, key);
    }
  } catch {
    // The browser has no storage for this page: the key lasts as long as the page.
  }
}

function showWhatNeedsKey() {
  forget.hidden = key === null;
  if (usage) {
    usage.hidden = key === null;
  }
}

function stored() {
  try {
    return sessionStorage.getItem(KEY_ITEM);
  } catch {
    return null;
  }
}

form.addEventListener("submit", useKey);
forget.addEventListener("click", () => {
  setKey(null);
  announce("The key is forgotten.");
  next.focus();
});
showWhatNeedsKey();
