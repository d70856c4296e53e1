// What is on the screen. Messages and answers are inserted as text, never as HTML.

const talk = document.getElementById("talk");
const spoken = document.getElementById("spoken");

// The page follows the answer while its end is visible, and keeps its position when the user has scrolled up.
const NEAR_END_PIXELS = 120;

/** Announces a sentence to screen readers. */
export function announce(sentence) {
  spoken.textContent = sentence;
}

/** Shows what the user wrote. Earlier failures can then no longer be retried. */
export function addMessage(text) {
  talk.querySelectorAll("button").forEach((button) => button.remove());
  const { item } = addItem("message", "You", text);
  item.scrollIntoView({ block: "end" });
}

/** Shows an answer that is in progress, and returns the functions that update it. */
export function addAnswer() {
  const { item, body } = addItem("answer", "Agent", "");
  item.setAttribute("aria-busy", "true");
  const text = body.appendChild(document.createTextNode(""));
  toEnd();
  return {
    append(piece) {
      const follows = nearEnd();
      text.appendData(piece);
      if (follows) {
        toEnd();
      }
    },
    get text() {
      return text.data;
    },
    /** Ends the answer with a line of facts, and a note if there is one. */
    end(facts, note) {
      const follows = nearEnd();
      item.removeAttribute("aria-busy");
      if (note) {
        item.append(line("note", note));
      }
      item.append(line("facts", facts));
      if (follows) {
        toEnd();
      }
    },
    /** Ends the answer with an error. `again` is called when the user retries, which is possible after `wait` seconds. */
    fail(message, { wait, again }) {
      item.removeAttribute("aria-busy");
      item.classList.add("failed");
      const problem = line("problem", wait && !/\d s\b/.test(message) ? `${message} Wait ${wait} s.` : message);
      problem.setAttribute("role", "alert");
      const button = againButton(wait, () => {
        item.remove();
        again();
      });
      item.append(problem, button);
      toEnd();
    },
    remove() {
      item.remove();
    },
  };
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

function againButton(wait, again) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
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
