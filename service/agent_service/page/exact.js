// Text from models and tool servers, shown so that what is read is what is sent.

// Characters that are invisible, reorder the text around them, or look like an ordinary space.
const HIDDEN = /(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const STRING = /("(?:[^"\\]|\\.)*")/;

/** Parses JSON. Numbers that JavaScript cannot hold, such as 12345678901234567890, keep their digits. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && JSON.rawJSON && context.source !== String(value)
      ? JSON.rawJSON(context.source)
      : value,
  );
}

/** Returns the text with each hidden character as its escape in JSON, except those in `kept`. */
export function visible(text, kept = "") {
  return text.replace(HIDDEN, (character) => (kept.includes(character) ? character : escaped(character)));
}

function escaped(character) {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

/** Returns an element with a name, which does not reorder the text around it. */
export function named(name) {
  const element = document.createElement("bdi");
  element.className = "name";
  element.dir = "ltr";
  element.textContent = visible(name);
  return element;
}

/** Returns the JSON of a value. Its strings are isolated: otherwise Hebrew or Arabic could swap a name and its value. */
export function json(value) {
  const fragment = document.createDocumentFragment();
  const parts = visible(JSON.stringify(value, null, 2), "\n").split(STRING);
  parts.forEach((part, index) => {
    const isString = index % 2 === 1;
    const node = isString ? document.createElement("bdi") : document.createTextNode(part);
    if (isString) {
      node.dir = "ltr";
      node.textContent = part;
    }
    fragment.append(node);
  });
  return fragment;
}

/** Returns a box with content of any length, which is scrolled with the mouse or the keyboard. */
export function box(label, content) {
  const element = document.createElement("pre");
  element.tabIndex = 0;
  element.dir = "ltr";
  element.setAttribute("role", "region");
  element.setAttribute("aria-label", label);
  element.append(content);
  return element;
}
