// The chat: one conversation at a time, one answer at a time.
import { about, ask } from "./api.js";
import * as view from "./view.js";

const LONGEST_MESSAGE = 10_000;
const COUNT_FROM = 9_000;
const KEY_ITEM = "portside.client-key";
// A key travels in an HTTP header (RFC 9110, 5.5).
const KEY_SHAPE = /^[\x21-\x7e]+$/;

const [composer, message, send, stop, count] = byId("composer", "message", "send", "stop", "count");
const [keyForm, keyField, keyNote, forgetKey] = byId("key-form", "key", "key-note", "forget-key");
const [welcome, newConversation, aboutLine] = byId("welcome", "new", "about");

let conversationId = null;
// The AbortController of the answer in progress.
let running = null;
// The message to send once there is a key.
let unsent = null;
let clientKey = stored();

function byId(...ids) {
  return ids.map((id) => document.getElementById(id));
}

async function answer(text) {
  const control = new AbortController();
  running = control;
  showRunning(true);
  view.announce("The agent is answering.");
  const shown = view.addAnswer();
  const started = performance.now();
  let first = null;
  try {
    for await (const event of ask({ message: text, conversationId, key: clientKey, signal: control.signal })) {
      if (running !== control) {
        return;
      }
      if (event.type === "text") {
        first ??= performance.now();
        shown.append(event.content);
      } else if (event.type === "done") {
        conversationId = event.conversation_id;
        const note = notes(event).join(" ");
        shown.end(facts(event, started, first), note);
        view.announce(`The agent answered: ${shown.text} ${note}`);
      }
    }
  } catch (error) {
    if (running === control) {
      failed(error, shown, text, started);
    }
  } finally {
    if (running === control) {
      running = null;
      showRunning(false);
    }
  }
}

function failed(error, shown, text, started) {
  if (error.name === "AbortError") {
    shown.end(`Stopped after ${seconds(performance.now() - started)}; the agent will not remember this exchange`);
    view.announce("Stopped.");
  } else if (error.status === 401) {
    shown.remove();
    askForKey(text);
  } else {
    shown.fail(error.message, { wait: error.wait ?? 0, again: () => again(text) });
  }
}

function again(text) {
  message.focus();
  if (!running) {
    answer(text);
  }
}

function notes(event) {
  const reason = event.stop_reason === "max_tokens" ? "it reached the maximum number of tokens" : event.stop_reason;
  const cut = reason && reason !== "end_turn" && `The answer was cut short: ${reason}.`;
  return [cut, event.warning].filter(Boolean);
}

function facts(event, started, first) {
  const now = performance.now();
  return [
    `${event.input_tokens} tokens in, ${event.output_tokens} out`,
    seconds(now - started),
    first && `first text after ${seconds(first - started)}`,
  ].filter(Boolean).join(" · ");
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}

function showRunning(on) {
  send.hidden = on;
  stop.hidden = !on;
}

function submit(event) {
  event.preventDefault();
  const text = message.value;
  if (running || !text.trim() || length(text) > LONGEST_MESSAGE) {
    return;
  }
  welcome.hidden = true;
  message.value = "";
  showCount();
  message.focus();
  view.addMessage(text);
  answer(text);
}

// As the service counts: code points, not UTF-16 units.
function length(text) {
  return [...text].length;
}

function showCount() {
  const used = message.value.length < COUNT_FROM ? 0 : length(message.value);
  const over = used > LONGEST_MESSAGE;
  const [have, most] = [used, LONGEST_MESSAGE].map((number) => number.toLocaleString("en"));
  count.textContent = used < COUNT_FROM ? "" : `${have} of ${most} characters`;
  count.classList.toggle("over", over);
  message.setAttribute("aria-invalid", String(over));
  send.disabled = over;
}

function startConversation() {
  running?.abort();
  running = null;
  showRunning(false);
  conversationId = null;
  unsent = null;
  keyForm.hidden = true;
  view.clear();
  welcome.hidden = false;
  view.announce("New conversation.");
  message.focus();
}

function askForKey(text) {
  const refused = clientKey !== null;
  setKey(null);
  unsent = text;
  keyForm.hidden = false;
  keyNote.textContent = refused
    ? "The agent did not accept that key. Try another one."
    : "This agent requires a client key. The key is kept in this tab until you close it.";
  keyField.setAttribute("aria-invalid", String(refused));
  view.announce(keyNote.textContent);
  keyField.focus();
}

function useKey(event) {
  event.preventDefault();
  const key = keyField.value.trim();
  if (!KEY_SHAPE.test(key)) {
    keyNote.textContent = "This is not a valid key: keys have no spaces and no accented letters.";
    view.announce(keyNote.textContent);
    return;
  }
  setKey(key);
  keyField.value = "";
  keyForm.hidden = true;
  message.focus();
  const text = unsent;
  unsent = null;
  if (text !== null && !running) {
    answer(text);
  }
}

function setKey(key) {
  clientKey = key;
  forgetKey.hidden = key === null;
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

function stored() {
  try {
    return sessionStorage.getItem(KEY_ITEM);
  } catch {
    return null;
  }
}

async function introduce() {
  const { model, environment, version } = await about().catch(() => ({}));
  aboutLine.textContent = model ? `${model} · ${environment} · version ${version}` : "";
}

composer.addEventListener("submit", submit);
message.addEventListener("input", showCount);
message.addEventListener("keydown", (event) => {
  // An Enter that confirms a character of an input method does not send the message.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) {
    running?.abort();
  }
});
stop.addEventListener("click", () => {
  running?.abort();
  message.focus();
});
newConversation.addEventListener("click", startConversation);
keyForm.addEventListener("submit", useKey);
forgetKey.addEventListener("click", () => {
  setKey(null);
  view.announce("The key is forgotten.");
  message.focus();
});
forgetKey.hidden = clientKey === null;
introduce();
