// The tool calls of an answer: the state of each in one line, which opens to its input and its result.
import { box, json, named, visible } from "./exact.js";

/** Returns a call that runs: its element, and the functions that update it. `isTimed`: whether its duration is known. */
export function addCall({ name, input }, { isTimed }) {
  const element = document.createElement("details");
  element.className = "call";
  const summary = element.appendChild(document.createElement("summary"));
  const state = document.createElement("span");
  summary.append(named(name), " ", state);
  element.append(box(`Input of ${visible(name)}`, json(input)));
  let started = 0;
  let ended = false;
  const show = (kind, text) => {
    element.dataset.state = kind;
    state.textContent = text;
  };
  const call = {
    element,
    /** Shows that the call runs, from now on. A call that has its result keeps its state, here and below. */
    run() {
      if (!ended) {
        started = performance.now();
        show("running", "running");
      }
    },
    wait() {
      if (!ended) {
        show("waiting", "waits for approval");
      }
    },
    stop() {
      if (!ended) {
        show("stopped", "no result");
      }
    },
    end({ is_error: isError, content }) {
      ended = true;
      const [kind, label] = isError ? ["failed", "Error"] : ["done", "Result"];
      show(kind, isTimed ? `${kind} · ${seconds(performance.now() - started)}` : kind);
      element.append(box(`${label} of ${visible(name)}`, visible(content, "\n\t") || "(empty)"));
    },
  };
  call.run();
  return call;
}

/** Returns a duration as text. */
export function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}
