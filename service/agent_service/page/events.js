// Server-sent events (WHATWG HTML, 9.2.6) from a fetch: EventSource can neither POST nor send a header.

/** Parses events from text that arrives in pieces, which may be cut anywhere. */
export class EventParser {
  #rest = "";
  #data = [];
  #afterReturn = false;

  /** Takes a piece of text, and returns the data of each event that is now complete. */
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
      return data.length ? [data.join("\n")] : [];
    }
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    // A comment, which keeps the connection alive, is a line without a field name.
    if (field === "data") {
      this.#data.push(value ?? "");
    }
    return [];
  }
}

/** Yields the data of each event in a response's body as it arrives. Leaving the loop ends the request. */
export async function* events(body) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      yield* parser.push(value);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
