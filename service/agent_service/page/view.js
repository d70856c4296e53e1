// What is on the screen. Whatever was typed or answered goes in as text, never as HTML.

const talk = document.getElementById("talk");
const spoken = document.getElementById("spoken");

// The page follows the answer while its end is in sight, and stays where it is when someone has scrolled up to read.
const NEAR_END_PIXELS = 120;

/** Says a sentence to those who listen. */
export function say(sentence) {
  spoken.textContent = sentence;
}

/** Shows what the user wrote. What failed before is then past another try. */
export function addMessage(text) {
  talk.querySelectorAll("button").forEach((button) => button.remove());
  const { item } = addItem("message", "You", text);
  item.scrollIntoView({ block: "end" });
}

/** Shows an answer that is still to come; gives what it can be told. */
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
    /** Ends the answer with a line of facts, and a note where there is something to know. */
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
    /** Ends the answer with what went wrong. `again` is called when the user wants another try; from `wait` s on. */
    fail(words, { wait, again }) {
      item.removeAttribute("aria-busy");
      item.classList.add("failed");
      const problem = line("problem", wait && !/\d s\b/.test(words) ? `${words} Wait ${wait} s.` : words);
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
