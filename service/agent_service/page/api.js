// The agent API, as this page uses it. Addresses are relative to this file, so that they also work behind a path prefix.
import { events } from "./events.js";
import { parse } from "./exact.js";

const ROOT = new URL("..", import.meta.url);
const FOREIGN = "The answer did not come from the agent, but from something between it and this page.";

// The service sends a comment every 15 s by default. A connection that is silent for longer is taken to be dead.
const SILENCE_MILLISECONDS = 90_000;

/**
 * Why a request or an answer failed, as a sentence. `status` is 0 when there was no HTTP error; `wait` is in seconds;
 * `lost` is whether the connection failed.
 */
export class Refusal extends Error {
  constructor(message, { status = 0, wait = 0, lost = false } = {}) {
    super(message);
    this.status = status;
    this.wait = wait;
    this.lost = lost;
  }
}

/** Returns the service's description of itself. */
export async function about() {
  const answer = await fetch(ROOT, { headers: { Accept: "application/json" } });
  return answer.ok ? answer.json() : {};
}

/**
 * Submits a message, and returns the task that answers it: the same one for the same `submission`. Throws a Refusal, as
 * the functions below do.
 */
export function submit({ message, conversationId, submission, key }) {
  const body = { message, ...(conversationId && { conversation_id: conversationId }), background: true };
  return json("POST", "chat", { body, key, headers: { "Idempotency-Key": submission } });
}

/** Returns the state of a task. */
export function lookUp({ task, key, signal }) {
  return json("GET", path(task), { key, signal });
}

/** Decides on a tool call that waits, and returns the state of its task. */
export function decide({ task, id, approve, reason, key, signal }) {
  return json("POST", `${path(task)}/approvals`, { body: { id, approve, reason }, key, signal });
}

/** Returns what the client has used in the current period. */
export function ownUsage({ key, signal }) {
  return json("GET", "usage", { key, signal });
}

/** Returns what all clients have used since a day. */
export function allUsage({ key, since, signal }) {
  return json("GET", `usage/history?since=${encodeURIComponent(since)}`, { key, signal });
}

/** Cancels a task, even if the page is being closed, and returns its state. */
export function cancel({ task, key }) {
  return json("DELETE", path(task), { key, keepalive: true });
}

/**
 * Yields the events of a task after the one with the id `after`, each as `{ id, event }`, until the connection ends.
 * `onOpen` is called once it is open. Throws a Refusal, or an AbortError when `signal` fires.
 */
export async function* read({ task, after, key, signal, onOpen }) {
  const silence = new AbortController();
  let timer = 0;
  const onArrival = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MILLISECONDS);
  };
  const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
  try {
    onArrival();
    const either = AbortSignal.any([signal, silence.signal]);
    const answer = await request("GET", `${path(task)}/events`, { headers, key, signal: either });
    expect(answer, "text/event-stream");
    onOpen();
    for await (const { id, data } of events(answer.body, onArrival)) {
      yield { id, event: parse(data) };
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : asRefusal(error);
  } finally {
    clearTimeout(timer);
  }
}

async function json(method, where, { body, headers, key, signal, keepalive }) {
  const all = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...headers };
  try {
    const answer = await request(method, where, { headers: all, body: body && JSON.stringify(body), key, signal, keepalive });
    expect(answer, "application/json");
    return parse(await answer.text());
  } catch (error) {
    throw signal?.aborted ? signal.reason : asRefusal(error);
  }
}

async function request(method, where, { key, headers, ...options }) {
  const all = { ...headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(new URL(where, ROOT), { method, headers: all, ...options });
  if (!answer.ok) {
    throw await refusal(answer);
  }
  return answer;
}

function path(task) {
  return `tasks/${encodeURIComponent(task)}`;
}

function expect(answer, mediaType) {
  if (!(answer.headers.get("Content-Type") ?? "").startsWith(mediaType)) {
    throw new Refusal(FOREIGN);
  }
}

function asRefusal(error) {
  if (error instanceof Refusal) {
    return error;
  }
  if (error instanceof SyntaxError) {
    return new Refusal(FOREIGN);
  }
  const lost = "The connection to the agent failed. Check that it is running and can be reached.";
  return new Refusal(lost, { lost: true });
}

async function refusal(answer) {
  const { detail } = await answer.json().catch(() => ({}));
  // For faults of the input, the service returns a list.
  const reason = Array.isArray(detail) ? detail.map((fault) => fault.msg).join("; ") : detail;
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  return new Refusal(reason || `The agent answered with status ${answer.status}.`, { status: answer.status, wait });
}
