// One answer at a time: asks the agent, follows what it answers, decides on tool calls, and stops.
import { cancel, decide, lookUp, submit } from "./api.js";
import { conversation, keep, reset } from "./conversation.js";
import { askForKey, clientKey } from "./key.js";
import { follow } from "./stream.js";
import { Turn } from "./turn.js";
import * as view from "./view.js";

const EXPIRED = "The agent no longer has this answer. Ask again if you still need it.";
const OF_ANOTHER = "The decision is made. The rest of the answer is for the client that asked: go on with its key.";
const NEEDS_KEY = "The rest of the answer is for the client that asked: go on with its key.";

const [message, send, stopButton] = ["message", "send", "stop"].map((id) => document.getElementById(id));

// The AbortController of the answer in progress.
let running = null;

/** Returns whether an answer is in progress. */
export function isAnswering() {
  return running !== null;
}

/** Stops the answer in progress, if any. */
export function stop() {
  running?.abort();
}

/** Stops the answer in progress without showing it, because its conversation has ended. */
export function leave() {
  const left = running;
  running = null;
  showRunning(false);
  left?.abort();
}

/** Asks the agent to answer the message of a record, and shows its answer. */
export function answer(record) {
  reset(record);
  keep();
  ask(new Turn(record, { isLive: true, onDecision: decideOn }));
}

function ask(turn) {
  const { record } = turn;
  const { message: text, submission } = record;
  view.announce("The agent is answering.");
  // It is not aborted: a task that the agent has accepted can only be cancelled once its id is known.
  const accepted = submit({ message: text, conversationId: conversation.id, submission, key: clientKey() });
  const submitted = async (signal) => {
    record.task = (await unlessAborted(accepted, signal)).task_id;
    keep();
    return true;
  };
  turn.task = accepted.then(({ task_id: task }) => task);
  // `work` reports the error.
  turn.task.catch(() => {});
  return work(turn, submitted, (error) => refused(turn, error));
}

/** Shows the turns of the restored conversation, and goes on with the answers that have not ended. */
export async function restoreTurns() {
  const open = [];
  if (conversation.isCut) {
    view.addNote("The earlier messages of this conversation are not shown: they are too long for this tab's storage.");
  }
  for (const record of conversation.turns) {
    view.addMessage(record.message);
    const turn = new Turn(record, { isLive: false, onDecision: decideOn });
    turn.task = Promise.resolve(record.task);
    if (record.end) {
      turn.replay(() => again(record));
    } else {
      open.push(turn);
    }
  }
  for (const turn of open) {
    await (turn.record.task ? goOn(turn) : ask(turn));
  }
}

/** Reads on in the events of a turn. */
async function goOn(turn) {
  if (running) {
    return;
  }
  turn.shown.begin();
  view.announce("The agent is answering.");
  await work(turn, async () => true, () => {});
}

/** Sends a decision on a tool call of a turn that waits, or goes on with the turn, and shows the rest of its answer. */
function decideOn(turn, call, decision) {
  if (running) {
    return;
  }
  turn.shown.begin();
  if (!turn.shown.focusNext(call.id)) {
    message.focus();
  }
  const { task } = turn.record;
  const decided = async (signal) => {
    const made = decision.approve !== undefined;
    const options = { task, key: clientKey(), signal };
    const state = await (made ? decide({ ...options, id: call.id, ...decision }) : lookUp(options));
    turn.isDecided = true;
    if (state.status === "input_required" && state.approvals?.length) {
      turn.wait(state.approvals);
      return false;
    }
    return true;
  };
  work(turn, decided, (error) => undecided(turn, call, decision, error));
}

/**
 * Works on a turn: calls `prepare`, and follows the events of the task if it returns true. `onRefusal` is called with an
 * error of `prepare`.
 */
async function work(turn, prepare, onRefusal) {
  const control = new AbortController();
  const { signal } = control;
  running = control;
  showRunning(true);
  turn.begin();
  let onError = onRefusal;
  try {
    if (await prepare(signal)) {
      onError = (error) => broken(turn, error);
      const options = { task: turn.record.task, after: turn.after, key: clientKey, signal };
      for await (const { id, event } of follow({ ...options, onConnection: (isOpen) => turn.shown.connect(isOpen) })) {
        signal.throwIfAborted();
        turn.after = id;
        if (event.type === "error") {
          turn.fail(event.message, { again: () => again(turn.record) });
        } else {
          turn.take(await upToDate(turn, event, signal));
        }
      }
    }
  } catch (error) {
    if (signal.aborted) {
      stopped(turn, running === control);
    } else {
      onError(error);
    }
  } finally {
    if (running === control) {
      running = null;
      showRunning(false);
    }
  }
}

/** Returns an event that was read again without the tool calls that were decided since. */
async function upToDate(turn, event, signal) {
  if (event.type !== "input_required" || turn.isLive) {
    return event;
  }
  const { approvals } = await lookUp({ task: turn.record.task, key: clientKey(), signal });
  return { ...event, approvals: approvals ?? event.approvals };
}

/** Cancels the task of a turn that the user has stopped. `isShown`: whether its conversation is still on the screen. */
async function stopped(turn, isShown) {
  if (isShown) {
    turn.stop();
    view.announce("Stopped.");
  }
  let outcome = "the agent will not remember this exchange";
  try {
    const { status } = await cancel({ task: await turn.task, key: clientKey() });
    outcome = status === "completed" ? "the agent had completed the answer, and remembers it" : outcome;
  } catch (error) {
    outcome = error.lost ? "the agent could not be reached, so it may go on" : outcome;
  }
  if (isShown) {
    turn.stop(outcome);
  }
}

/** Shows why the agent did not accept a message. */
function refused(turn, error) {
  const retry = () => again(turn.record);
  if (error.status === 401) {
    turn.shown.remove();
    askForKey(retry);
  } else {
    turn.fail(error.message, { wait: error.wait ?? 0, again: retry });
  }
}

/** Shows why a decision had no effect. */
function undecided(turn, call, decision, error) {
  if (error.status === 401) {
    turn.shown.rest();
    askForKey(() => decideOn(turn, call, decision));
    return;
  }
  const open = error.status !== 404 && error.status !== 409;
  const mayGoOn = error.status === 403 || error.status === 409 || decision.approve === undefined;
  const next = error.status !== 404 && mayGoOn ? () => decideOn(turn, call, {}) : null;
  turn.shown.refuse(call.id, view.withWait(error.message, error.wait ?? 0), { open, goOn: next });
}

/** Shows why the events of a turn can no longer be read. */
function broken(turn, error) {
  const next = () => goOn(turn);
  if (error.status === 401) {
    turn.shown.pause(NEEDS_KEY, next, "note");
    askForKey(next);
  } else if (error.status === 404 && turn.isDecided) {
    turn.shown.pause(OF_ANOTHER, next, "note");
    view.announce(OF_ANOTHER);
  } else if (error.status === 404) {
    turn.fail(EXPIRED, { again: () => again(turn.record) });
  } else {
    turn.shown.pause(view.withWait(error.message, error.wait ?? 0), next);
  }
}

function again(record) {
  message.focus();
  if (!running) {
    answer(record);
  }
}

function unlessAborted(promise, signal) {
  return Promise.race([
    promise,
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    }),
  ]);
}

function showRunning(on) {
  send.hidden = on;
  stopButton.hidden = !on;
  view.freeze(on);
}
