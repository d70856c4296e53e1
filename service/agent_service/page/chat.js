// The chat: the field for a message, and the conversation of this tab.
import { answer, isAnswering, leave, restoreTurns, stop } from "./answering.js";
import { about } from "./api.js";
import { addTurn, conversation, restore, startAgain } from "./conversation.js";
import { dismiss } from "./key.js";
import * as view from "./view.js";

const LONGEST_MESSAGE = 10_000;
const COUNT_FROM = 9_000;

const [composer, message, send, stopButton, count] = byId("composer", "message", "send", "stop", "count");
const [welcome, newConversation, aboutLine] = byId("welcome", "new", "about");

function byId(...ids) {
  return ids.map((id) => document.getElementById(id));
}

function submit(event) {
  event.preventDefault();
  const text = message.value;
  if (isAnswering() || !text.trim() || length(text) > LONGEST_MESSAGE) {
    return;
  }
  welcome.hidden = true;
  message.value = "";
  showCount();
  message.focus();
  view.addMessage(text);
  answer(addTurn(text));
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
  leave();
  startAgain();
  dismiss();
  view.clear();
  welcome.hidden = false;
  view.announce("New conversation.");
  message.focus();
}

function restoreConversation() {
  restore();
  welcome.hidden = conversation.turns.length > 0;
  restoreTurns();
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
    stop();
  }
});
stopButton.addEventListener("click", () => {
  stop();
  message.focus();
});
newConversation.addEventListener("click", startConversation);
restoreConversation();
introduce();
