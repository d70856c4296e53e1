// The agent API, as this page uses it. Addresses are relative to this file, so that they also work behind a path prefix.
import { events } from "./events.js";
import { parse } from "./exact.js";

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
 * Asks the agent, and yields the events of its answer: `text`, `tool_use` and `tool_result` any number of times, then
 * `done`, or `input_required` if tool calls wait for an approval.
 * Throws a Refusal, or an AbortError when `signal` fires.
 */
export function ask({ message, conversationId, key, signal }) {
  return request("chat/stream", { message, ...(conversationId && { conversation_id: conversationId }) }, key, signal);
}

/**
 * Decides on a tool call that waits, and yields the events of the rest of the answer as `ask` does; or `decided` if
 * that belongs to another client. Without `approve`, it goes on with a turn that an approver has decided.
 */
export function decide({ conversationId, id, approve, reason, key, signal }) {
  const path = `chat/${encodeURIComponent(conversationId)}/approvals`;
  return request(path, { id, approve, reason, stream: true }, key, signal);
}

async function* request(path, body, key, signal) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  try {
    const answer = await fetch(new URL(path, ROOT), { method: "POST", headers, body: JSON.stringify(body), signal });
    if (!answer.ok) {
      throw await refusal(answer);
    }
    const mediaType = answer.headers.get("Content-Type") ?? "";
    const decided = mediaType.startsWith("application/json") ? parse(await answer.text()) : {};
    if (decided.status === "decided") {
      yield { ...decided, type: "decided" };
      return;
    }
    if (!mediaType.startsWith("text/event-stream")) {
      throw new Refusal("The answer did not come from the agent, but from something between it and this page.");
    }
    for await (const data of events(answer.body)) {
      const event = parse(data);
      if (event.type === "error") {
        throw new Refusal(event.message);
      }
      yield event;
      if (event.type === "done" || event.type === "input_required") {
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
