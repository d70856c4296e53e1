// The events of a task, across connections that break: a pod that is replaced, a network that changes.
import { read, Refusal } from "./api.js";

const FIRST_PAUSE_MILLISECONDS = 250;
const LONGEST_PAUSE_MILLISECONDS = 8_000;

// A pod that is replaced is ready again within this time; afterwards the user decides whether to go on.
const PATIENCE_MILLISECONDS = 120_000;

// A connection that lasted this long worked, even without an event.
const WORKED_MILLISECONDS = 10_000;

// What says nothing about the task: limits, and a service or a proxy in front of it that is about to be replaced.
const PASSING = new Set([408, 429, 500, 502, 503, 504]);

const POSITION_UNKNOWN = 422;
const LAST = new Set(["done", "error"]);

/**
 * Yields the events of a task after the one with the id `after`, each as `{ id, event }`: to the last one, or until tool
 * calls wait for an approval. Connects again when the connection breaks, from where it broke.
 *
 * `key` returns the client key. `onConnection` is called with `false` when a second attempt to connect has failed too,
 * and with `true` when the connection is open. Throws a Refusal, or an AbortError when `signal` fires.
 */
export async function* follow({ task, after, key, signal, onConnection }) {
  let failures = 0;
  let failingSince = 0;
  for (;;) {
    const began = performance.now();
    let type = "";
    let wait = 0;
    let problem = new Refusal("The connection was closed before the answer was complete.");
    try {
      for await (const found of read({ task, after, key: key(), signal, onOpen: () => onConnection(true) })) {
        failures = 0;
        type = found.event.type;
        after = found.id || after;
        yield found;
        if (LAST.has(type)) {
          return;
        }
      }
    } catch (error) {
      if (after && error.status === POSITION_UNKNOWN) {
        after = null;
        yield { id: null, event: { type: "restarted", content: "" } };
      } else if (!error.lost && !PASSING.has(error.status)) {
        throw error;
      }
      problem = error;
      wait = error.wait ?? 0;
    }
    if (type === "input_required") {
      return;
    }
    if (performance.now() - began > WORKED_MILLISECONDS) {
      failures = 0;
    }
    failures += 1;
    failingSince = failures === 1 ? performance.now() : failingSince;
    if (performance.now() - failingSince > PATIENCE_MILLISECONDS) {
      throw problem;
    }
    if (failures > 1) {
      onConnection(false);
    }
    await pause(failures, wait, signal);
  }
}

/** Waits before a connection: longer each time, and random, so that the clients of a pod do not all return at once. */
async function pause(failures, wait, signal) {
  const longest = Math.min(LONGEST_PAUSE_MILLISECONDS, FIRST_PAUSE_MILLISECONDS * 2 ** (failures - 1));
  const milliseconds = Math.max(wait * 1000, longest * (0.5 + Math.random() / 2));
  const over = new AbortController();
  try {
    await new Promise((resolve, reject) => {
      setTimeout(resolve, milliseconds);
      addEventListener("online", resolve, { signal: over.signal });
      signal.addEventListener("abort", () => reject(signal.reason), { signal: over.signal });
      if (signal.aborted) {
        reject(signal.reason);
      }
    });
  } finally {
    over.abort();
  }
}
