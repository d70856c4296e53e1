// A message and its answer: what is on the screen of it, and what is kept of it.
import { seconds } from "./calls.js";
import { conversation, keep } from "./conversation.js";
import { visible } from "./exact.js";
import * as view from "./view.js";

const FORGOTTEN = "The agent no longer has the earlier messages of this conversation, so it answered without them.";

export class Turn {
  /** Position in the events of its task. */
  after = null;
  /** Promise of the id of its task. */
  task = null;
  /** Whether a decision was made, and no event has followed yet. */
  isDecided = false;
  #sent = 0;
  #received = 0;
  #spent = 0;
  #began = 0;
  #first = null;
  #attempts = 1;
  #isForgotten = false;
  #isLive;
  #continues;
  #onDecision;

  /**
   * Shows an answer to the message of a record. `isLive`: whether this page has asked, so that it knows the times.
   * `onDecision` is called with this turn, the call and the decision when the user decides on a tool call.
   */
  constructor(record, { isLive, onDecision }) {
    this.record = record;
    this.#isLive = isLive;
    this.#onDecision = onDecision;
    this.#continues = conversation.id;
    this.shown = view.addAnswer({ isTimed: isLive });
  }

  /** Shows what is kept of an answer that has ended. `again` is called when the user retries one that failed. */
  replay(again) {
    this.record.events.forEach((event) => this.#show(event));
    const { facts, note, problem } = this.record.end;
    if (problem) {
      this.shown.fail(problem, { wait: 0, again });
    } else {
      this.shown.end(facts, note);
    }
  }

  /** Starts to measure the time until the next pause or end. */
  begin() {
    this.#began = performance.now();
  }

  /** Whether the page has asked, and not only reads what happened before a reload too. */
  get isLive() {
    return this.#isLive;
  }

  /** Takes an event of the answer, other than an error. */
  take(event) {
    const { shown } = this;
    if (event.type === "input_required") {
      this.#count(event);
      this.wait(event.approvals, event.warning);
      keep();
      return;
    }
    this.isDecided = false;
    shown.goOn();
    if (event.type === "done") {
      this.#count(event);
      const note = this.#notes(event).join(" ");
      this.end({ facts: this.#facts(), note });
      view.announce(`The agent answered: ${shown.text} ${note}`);
    } else if (event.type === "resumed") {
      this.#attempts = Math.max(this.#attempts, event.attempt ?? 2);
    } else {
      this.#show(event);
      append(this.record.events, event);
    }
  }

  /** Shows the calls that wait for an approval. */
  wait(approvals, warning) {
    this.shown.wait(approvals, (call, decision) => this.#onDecision(this, call, decision), warning);
    const tools = approvals.map(({ tool }) => visible(tool)).join(", ");
    view.announce(`The answer waits for a decision on tool calls: ${tools}.`);
  }

  /** Ends the answer with a line of facts, and a note if there is one. */
  end({ facts, note }) {
    this.shown.end(facts, note);
    this.#close({ facts, note });
  }

  /** Ends the answer because the user has stopped it. `outcome` is what became of it, once that is known. */
  stop(outcome) {
    if (!this.record.end) {
      this.#spent += performance.now() - this.#began;
    }
    this.shown.goOn();
    this.end({ facts: [`Stopped after ${this.#duration()}`, outcome].filter(Boolean).join("; ") });
  }

  /** Ends the answer with an error. `again` is called when the user retries, which is possible after `wait` seconds. */
  fail(problem, { wait = 0, again }) {
    this.shown.goOn();
    this.shown.fail(problem, { wait, again });
    this.#close({ problem });
  }

  #close(end) {
    this.record.end = end;
    keep();
  }

  #show(event) {
    const { shown } = this;
    if (event.type === "text") {
      this.#first ??= this.#spent + performance.now() - this.#began;
      shown.append(event.content);
    } else if (event.type === "tool_use") {
      shown.use(event);
    } else if (event.type === "tool_result") {
      shown.result(event);
    } else if (event.type === "restarted") {
      shown.restart(event.content);
    }
  }

  /** Adds what the answer took since it began or went on. */
  #count(event) {
    // A task counts at its end.
    this.#sent += event.input_tokens ?? 0;
    this.#received += event.output_tokens ?? 0;
    this.#spent += performance.now() - this.#began;
    this.#isForgotten ||= this.#continues !== null && event.conversation_id !== this.#continues;
    if (this.#continues === conversation.id) {
      conversation.id = event.conversation_id;
    }
    this.#continues = event.conversation_id;
  }

  #notes(event) {
    const reason = event.stop_reason === "max_tokens" ? "it reached the maximum number of tokens" : event.stop_reason;
    const cut = reason && reason !== "end_turn" && `The answer was cut short: ${reason}.`;
    return [cut, this.#isForgotten && FORGOTTEN, event.warning].filter(Boolean);
  }

  #facts() {
    return [
      `${this.#sent} tokens in, ${this.#received} out`,
      this.#duration(),
      this.#isLive && this.#first !== null && `first text after ${seconds(this.#first)}`,
      this.#attempts > 1 && `${this.#attempts} attempts`,
    ].filter(Boolean).join(" · ");
  }

  // After a reload, the time includes that of decisions.
  #duration() {
    return seconds(this.#isLive ? this.#spent : Date.now() - this.record.asked);
  }
}

/** Appends an event of an answer to those that are kept. */
function append(kept, event) {
  const last = kept.at(-1);
  if (event.type === "text" && last?.type === "text") {
    kept[kept.length - 1] = { type: "text", content: last.content + event.content };
  } else if (event.type === "restarted") {
    const calls = kept.filter(({ type }) => type !== "text");
    kept.splice(0, kept.length, ...calls, { type: "text", content: event.content });
  } else {
    kept.push(event);
  }
}
