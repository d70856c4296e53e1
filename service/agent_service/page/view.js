// What is on the screen. Messages, answers and tool calls are inserted as text, never as HTML.
import { announce } from "./announce.js";
import { addCard, goOnButton } from "./approvals.js";
import { addCall } from "./calls.js";

const talk = document.getElementById("talk");

// The page follows the answer while its end is visible, and keeps its position when the user has scrolled up.
const NEAR_END_PIXELS = 120;

const RECONNECTING = "The connection to the agent broke. The answer continues once it is back.";

export { announce };

/** Shows what the user wrote. Earlier failures can then no longer be retried. */
export function addMessage(text) {
  talk.querySelectorAll(".again").forEach((button) => button.remove());
  const { item } = addItem("message", "You", text);
  item.scrollIntoView({ block: "end" });
}

/** Shows a sentence about the conversation. */
export function addNote(text) {
  const item = document.createElement("li");
  item.append(line("note", text));
  talk.append(item);
}

/**
 * Shows an answer that is in progress, and returns the functions that update it. `isTimed`: whether its tool calls are
 * shown with their duration.
 */
export function addAnswer({ isTimed }) {
  const { item, body } = addItem("answer", "Agent", "");
  const calls = new Map();
  const cards = new Map();
  let said = "";
  // What is below the answer: notes, facts, a problem, a button.
  let end = [];
  const connection = line("note", RECONNECTING);
  // Null after a tool call: the next piece begins a new text.
  let text = body.appendChild(document.createTextNode(""));

  const following = (change) => {
    const follows = nearEnd();
    change();
    if (follows) {
      toEnd();
    }
  };
  const finish = (...elements) => {
    item.removeAttribute("aria-busy");
    connection.remove();
    end.forEach((element) => element.remove());
    end = elements;
    item.append(...end);
  };
  const forEachCall = (change) => calls.forEach((call) => call[change]());
  const keepCards = (wanted) => {
    for (const [id, card] of cards) {
      if (!wanted.has(id)) {
        card.element.remove();
        cards.delete(id);
      }
    }
  };

  const shown = {
    get text() {
      return said;
    },
    /** Shows that the agent works on this answer, at first or again. */
    begin() {
      item.setAttribute("aria-busy", "true");
      item.classList.remove("failed");
      end.forEach((element) => element.remove());
      cards.forEach((card) => card.clearProblem());
      // While others are undecided, a decision lets no call run.
      if (cards.size <= 1) {
        forEachCall("run");
      }
    },
    append(piece) {
      said += piece;
      following(() => {
        const fresh = text ? piece : piece.replace(/^\n+/, "");
        if (fresh) {
          text ??= body.appendChild(document.createTextNode(""));
          text.appendData(fresh);
        }
      });
    },
    use(event) {
      following(() => {
        if (text) {
          text.data = text.data.trimEnd();
          text = null;
        }
        const call = addCall(event, { isTimed });
        calls.set(event.id, call);
        body.append(call.element);
      });
    },
    result(event) {
      following(() => calls.get(event.id)?.end(event));
    },
    /** Replaces the text of the answer so far. Its calls remain: they are not repeated. */
    restart(content) {
      said = "";
      text = null;
      body.replaceChildren(...[...calls.values()].map(({ element }) => element));
      shown.append(content);
    },
    /** Shows whether the answer arrives, or the page has to connect again. */
    connect(isOpen) {
      if (isOpen) {
        connection.remove();
      } else if (!connection.isConnected) {
        following(() => item.append(connection));
        announce(RECONNECTING);
      }
    },
    /** Shows the calls that wait for an approval. `decide` is called with the call and the decision. */
    wait(waiting, decide, warning) {
      following(() => {
        finish(...(warning ? [line("note", warning)] : []));
        forEachCall("wait");
        keepCards(new Set(waiting.map(({ id }) => id)));
        for (const call of waiting.filter(({ id }) => !cards.has(id))) {
          const card = addCard(call, (decision) => decide(call, decision));
          cards.set(call.id, card);
          item.append(card.element);
          card.measure();
        }
      });
    },
    /** Removes the cards, because the turn goes on. */
    goOn() {
      keepCards(new Set());
    },
    /** Moves the focus to the next card after that of `id`, and returns whether there is one. */
    focusNext(id) {
      const ids = [...cards.keys()];
      const next = ids[ids.indexOf(id) + 1] ?? ids[0];
      if (next === undefined || next === id) {
        return false;
      }
      cards.get(next).element.focus();
      return true;
    },
    /** Shows why a decision had no effect: on its card while there is one. */
    refuse(id, message, { open, goOn }) {
      const card = cards.get(id);
      if (card) {
        finish();
        forEachCall("wait");
        card.refuse(message, { open, goOn: goOn !== null });
      } else {
        shown.pause(message, goOn);
      }
    },
    /** Ends the answer for now, with the reason. `goOn` is called when the user goes on; null if that is impossible. */
    pause(message, goOn, kind = "problem") {
      shown.goOn();
      forEachCall("stop");
      finish(kind === "problem" ? problemLine(message) : line(kind, message), ...(goOn ? [goOnButton(false, goOn)] : []));
    },
    /** Ends the work on a decision before it had an effect. */
    rest() {
      finish();
      forEachCall("wait");
    },
    /** Ends the answer with a line of facts, and a note if there is one. */
    end(facts, note) {
      following(() => {
        forEachCall("stop");
        finish(...(note ? [line("note", note)] : []), line("facts", facts));
      });
    },
    /** Ends the answer with an error. `again` is called when the user retries, which is possible after `wait` seconds. */
    fail(message, { wait, again }) {
      forEachCall("stop");
      const button = againButton(wait, () => {
        item.remove();
        again();
      });
      item.classList.add("failed");
      finish(problemLine(withWait(message, wait)), button);
      toEnd();
    },
    remove() {
      item.remove();
    },
  };
  shown.begin();
  toEnd();
  return shown;
}

/** Returns a message with the seconds to wait, unless it has them. */
export function withWait(message, wait) {
  return wait && !/\d s\b/.test(message) ? `${message} Wait ${wait} s.` : message;
}

/** Disables the buttons of decisions, or enables them. */
export function freeze(on) {
  talk.querySelectorAll(".decide").forEach((button) => {
    button.disabled = on;
  });
}

/** Empties the conversation. */
export function clear() {
  talk.replaceChildren();
}

function addItem(kind, who, text) {
  const item = document.createElement("li");
  item.className = kind;
  const name = line("who", who);
  const body = document.createElement("div");
  body.className = "text";
  body.textContent = text;
  item.append(name, body);
  talk.append(item);
  return { item, body };
}

function line(kind, text) {
  const element = document.createElement("p");
  element.className = kind;
  element.textContent = text;
  return element;
}

function problemLine(message) {
  const problem = line("problem", message);
  problem.setAttribute("role", "alert");
  return problem;
}

function againButton(wait, again) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet again";
  button.addEventListener("click", again);
  const end = performance.now() + wait * 1000;
  const count = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0) {
      setTimeout(count, 250);
    }
  };
  count();
  return button;
}

function nearEnd() {
  const page = document.documentElement;
  return page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_END_PIXELS;
}

function toEnd() {
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}
