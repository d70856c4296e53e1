// The agent API, as this page uses it. Addresses are relative to this file, so that a path prefix in front does no harm.
import { events } from "./events.js";

const ROOT = new URL("..", import.meta.url);

/** Why there is no (whole) answer, in words. `status` is 0 when there was no HTTP error; `wait` is in seconds. */
export class Refusal extends Error {
  constructor(message, { status = 0, wait = 0 } = {}) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** What the service says about itself. */
export async function about() {
  const answer = await fetch(ROOT, { headers: { Accept: "application/json" } });
  return answer.ok ? answer.json() : {};
}

/**
 * Asks the agent, and gives the events of its answer: `text` any number of times, then `done`.
 * Throws a Refusal, or an AbortError when `signal` fires.
 */
export async function* ask({ message, conversationId, key, signal }) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  const body = JSON.stringify({ message, ...(conversationId && { conversation_id: conversationId }) });
  try {
    const answer = await fetch(new URL("chat/stream", ROOT), { method: "POST", headers, body, signal });
    if (!answer.ok) {
      throw await refusal(answer);
    }
    if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new Refusal("What answered was not the agent, but something on the way to it.");
    }
    for await (const data of events(answer.body)) {
      const event = JSON.parse(data);
      if (event.type === "error") {
        throw new Refusal(event.message);
      }
      yield event;
      if (event.type === "done") {
        return;
      }
    }
  } catch (error) {
    if (error instanceof Refusal || error.name === "AbortError") {
      throw error;
    }
    throw new Refusal("The connection to the agent failed. Is it still running, and the way to it open?");
  }
  throw new Refusal("The connection broke off before the answer was whole.");
}

async function refusal(answer) {
  const { detail } = await answer.json().catch(() => ({}));
  // Of faults in the input the service gives a list.
  const said = Array.isArray(detail) ? detail.map((fault) => fault.msg).join("; ") : detail;
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  return new Refusal(said || `The agent answered with status ${answer.status}.`, { status: answer.status, wait });
}
