// The chat: one conversation at a time, one answer at a time.
import { about, ask, decide } from "./api.js";
import { seconds } from "./calls.js";
import { visible } from "./exact.js";
import { askForKey, clientKey, dismiss } from "./key.js";
import * as view from "./view.js";

const LONGEST_MESSAGE = 10_000;
const COUNT_FROM = 9_000;

const [composer, message, send, stop, count] = byId("composer", "message", "send", "stop", "count");
const [welcome, newConversation, aboutLine] = byId("welcome", "new", "about");

let conversationId = null;
// The AbortController of the answer in progress.
let running = null;

function byId(...ids) {
  return ids.map((id) => document.getElementById(id));
}

/** Asks the agent, and shows its answer. */
function answer(text) {
  const turn = { shown: view.addAnswer(), conversationId, sent: 0, received: 0, spent: 0, first: null };
  view.announce("The agent is answering.");
  const started = performance.now();
  follow(
    turn,
    (signal) => ask({ message: text, conversationId, key: clientKey(), signal }),
    (error) => failed(error, turn.shown, text, started),
  );
}

function failed(error, shown, text, started) {
  if (error.name === "AbortError") {
    shown.end(`Stopped after ${seconds(performance.now() - started)}; the agent will not remember this exchange`);
    view.announce("Stopped.");
  } else if (error.status === 401) {
    shown.remove();
    askForKey(() => again(text));
  } else {
    shown.fail(error.message, { wait: error.wait ?? 0, again: () => again(text) });
  }
}

/** Sends the decision on a tool call of a turn that waits, or goes on with the turn, and shows the rest of its answer. */
function decideOn(turn, call, decision) {
  if (running) {
    return;
  }
  const goOn = () => decideOn(turn, call, {});
  turn.call = call;
  turn.goesOn = false;
  turn.shown.begin();
  if (!turn.shown.focusNext(call.id)) {
    message.focus();
  }
  follow(
    turn,
    (signal) => decide({ conversationId: turn.conversationId, id: call.id, ...decision, key: clientKey(), signal }),
    (error) => {
      if (error.name === "AbortError") {
        turn.shown.pause("Stopped. The agent can go on with this answer.", goOn, "note");
        view.announce("Stopped.");
      } else if (error.status === 401) {
        turn.shown.rest();
        askForKey(() => decideOn(turn, call, decision));
      } else if (turn.goesOn) {
        turn.shown.pause(error.message, goOn);
      } else {
        const open = error.status !== 404 && error.status !== 409;
        const mayGoOn = error.status === 403 || error.status === 409 || decision.approve === undefined;
        const reason = view.withWait(error.message, error.wait ?? 0);
        turn.shown.refuse(call.id, reason, { open, goOn: error.status !== 404 && mayGoOn ? goOn : null });
      }
    },
  );
}

/** Shows the events of a request in the answer of a turn. */
async function follow(turn, request, onError) {
  const control = new AbortController();
  running = control;
  showRunning(true);
  turn.began = performance.now();
  try {
    for await (const event of request(control.signal)) {
      if (running !== control) {
        return;
      }
      take(turn, event);
    }
  } catch (error) {
    if (running === control) {
      onError(error);
    }
  } finally {
    if (running === control) {
      running = null;
      showRunning(false);
    }
  }
}

function take(turn, event) {
  const { shown } = turn;
  if (event.type === "input_required") {
    add(turn, event);
    wait(turn, event);
    return;
  }
  if (event.type === "decided") {
    decided(turn, event);
    return;
  }
  turn.goesOn = true;
  shown.goOn();
  if (event.type === "text") {
    turn.first ??= turn.spent + performance.now() - turn.began;
    shown.append(event.content);
  } else if (event.type === "tool_use") {
    shown.use(event);
  } else if (event.type === "tool_result") {
    shown.result(event);
  } else if (event.type === "done") {
    add(turn, event);
    const note = notes(event).join(" ");
    shown.end(facts(turn), note);
    view.announce(`The agent answered: ${shown.text} ${note}`);
  }
}

function again(text) {
  message.focus();
  if (!running) {
    answer(text);
  }
}

/** Adds what one of its requests took to a turn. */
function add(turn, event) {
  turn.sent += event.input_tokens;
  turn.received += event.output_tokens;
  turn.spent += performance.now() - turn.began;
  if (turn.conversationId === conversationId) {
    conversationId = event.conversation_id;
  }
  turn.conversationId = event.conversation_id;
}

function wait(turn, { approvals, warning }) {
  turn.shown.wait(approvals, (call, decision) => decideOn(turn, call, decision), warning);
  const tools = approvals.map(({ tool }) => visible(tool)).join(", ");
  view.announce(`The answer waits for a decision on tool calls: ${tools}.`);
}

/** Shows a decision by another client than the one that asked, as after a change of the key. */
function decided(turn, { approvals = [] }) {
  if (approvals.length) {
    wait(turn, { approvals });
    return;
  }
  const text = "The decision is made. The rest of the answer is for the client that asked: go on with its key.";
  turn.shown.pause(text, () => decideOn(turn, turn.call, {}), "note");
  view.announce(text);
}

function notes(event) {
  const reason = event.stop_reason === "max_tokens" ? "it reached the maximum number of tokens" : event.stop_reason;
  const cut = reason && reason !== "end_turn" && `The answer was cut short: ${reason}.`;
  return [cut, event.warning].filter(Boolean);
}

function facts({ sent, received, spent, first }) {
  return [
    `${sent} tokens in, ${received} out`,
    seconds(spent),
    first !== null && `first text after ${seconds(first)}`,
  ].filter(Boolean).join(" · ");
}

function showRunning(on) {
  send.hidden = on;
  stop.hidden = !on;
  view.freeze(on);
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
  dismiss();
  view.clear();
  welcome.hidden = false;
  view.announce("New conversation.");
  message.focus();
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
introduce();
