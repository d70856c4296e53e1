// The conversation of this tab. It outlives a reload, and ends with the tab or with a new conversation.
import { parse } from "./exact.js";

const ITEM = "portside.conversation";
const FORMAT = 1;

// Browsers store about five million characters for a site.
const MOST_CHARACTERS = 1_000_000;

/**
 * `id` continues the conversation; null before its first answer. Each of its `turns` has the `message`, the id of its
 * `submission`, the `task` that answers it (null before the agent has accepted it), the `events` of the answer so far, and its `end`: null while there
 * is none, otherwise `{ facts, note }` or `{ problem }`. `isCut` is whether earlier turns were dropped.
 */
export const conversation = { id: null, turns: [], isCut: false };

/** Appends a turn, and returns it. */
export function addTurn(message) {
  const turn = { message };
  reset(turn);
  conversation.turns.push(turn);
  return turn;
}

/** Prepares a turn for another answer. A submission of which the agent may not know is repeated. */
export function reset(turn) {
  const submission = turn.task === null ? turn.submission : newId();
  Object.assign(turn, { submission, task: null, asked: Date.now(), events: [], end: null });
}

/** Keeps the conversation for a reload. The events of an answer that has not ended can be read from the agent again. */
export function keep() {
  const written = conversation.turns.map((turn) => JSON.stringify(turn.end ? turn : { ...turn, events: [] }));
  let length = written.reduce((sum, text) => sum + text.length, 0);
  while (length > MOST_CHARACTERS) {
    length -= written.shift().length;
  }
  while (!store(written) && written.length) {
    written.splice(0, Math.ceil(written.length / 2));
  }
}

/** Starts a conversation without turns. */
export function startAgain() {
  Object.assign(conversation, { id: null, turns: [], isCut: false });
  try {
    sessionStorage.removeItem(ITEM);
  } catch {
    // The browser has no storage for this page, so nothing was kept.
  }
}

/** Restores what was kept, if anything. */
export function restore() {
  try {
    const { format, id, turns, isCut } = parse(sessionStorage.getItem(ITEM)) ?? {};
    if (format === FORMAT && turns.every(({ message, events }) => typeof message === "string" && events.length >= 0)) {
      Object.assign(conversation, { id, turns, isCut });
    }
  } catch {
    // What is kept is damaged; or the browser has no storage for this page, and the conversation ends with the page.
  }
}

// crypto.randomUUID needs HTTPS, which a page in a cluster may not have.
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Stores turns, which are written as JSON. Returns false if they are too large for the browser. */
function store(turns) {
  const { id } = conversation;
  const isCut = conversation.isCut || turns.length < conversation.turns.length;
  const head = JSON.stringify({ format: FORMAT, id, isCut }).slice(0, -1);
  try {
    sessionStorage.setItem(ITEM, `${head},"turns":[${turns.join(",")}]}`);
    return true;
  } catch (error) {
    return error.name !== "QuotaExceededError";
  }
}
