// The agent API, as this page uses it. Addresses are relative to this file, so that they also work behind a path prefix.
import { events } from "./events.js";

const ROOT = new URL("..", import.meta.url);

/** Why there is no complete answer, as a sentence. `status` is 0 when there was no HTTP error; `wait` is in seconds. */
export class Refusal extends Error {
  constructor(message, { status = 0, wait = 0 } = {}) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** Returns the service's description of itself. */
export async function about() {
  const answer = await fetch(ROOT, { headers: { Accept: "application/json" } });
  return answer.ok ? answer.json() : {};
}

/**
 * Asks the agent, and yields the events of its answer: `text` any number of times, then `done`.
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
      throw new Refusal("The answer did not come from the agent, but from something between it and this page.");
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
    throw new Refusal("The connection to the agent failed. Check that it is running and can be reached.");
  }
  throw new Refusal("The connection was closed before the answer was complete.");
}

async function refusal(answer) {
  const { detail } = await answer.json().catch(() => ({}));
  // For faults of the input, the service returns a list.
  const reason = Array.isArray(detail) ? detail.map((fault) => fault.msg).join("; ") : detail;
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  return new Refusal(reason || `The agent answered with status ${answer.status}.`, { status: answer.status, wait });
}
