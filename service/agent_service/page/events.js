// Server-sent events (WHATWG HTML, 9.2.6) from a fetch: EventSource can neither POST nor send a header.

/** Parses events from text that arrives in pieces, which may be cut anywhere. */
export class EventParser {
  #rest = "";
  #data = [];
  #id = "";
  #afterReturn = false;

  /** Takes a piece of text, and returns each event that is now complete, as `{ id, data }`. */
  push(piece) {
    if (piece === "") {
      return [];
    }
    // A line may end with CR, LF or both, and a cut between the two must not make it two lines.
    const fresh = this.#afterReturn && piece.startsWith("\n") ? piece.slice(1) : piece;
    this.#afterReturn = piece.endsWith("\r");
    const lines = (this.#rest + fresh).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      // An event without an id of its own has that of the one before.
      return data.length ? [{ id: this.#id, data: data.join("\n") }] : [];
    }
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    // A comment, which keeps the connection alive, is a line without a field name.
    if (field === "data") {
      this.#data.push(value ?? "");
    } else if (field === "id") {
      this.#id = value ?? "";
    }
    return [];
  }
}

/**
 * Yields each event in a response's body as it arrives. Leaving the loop ends the request.
 * `onArrival` is called whenever anything arrives, a comment included.
 */
export async function* events(body, onArrival = () => {}) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      onArrival();
      yield* parser.push(value);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
