// Follows a shape by nothing but `fetch`: what the page uses until the browser client is built.

const RETRY_MS = 1000;
const NUMBERS = ["int2", "int4", "int8", "float4", "float8", "numeric"];

export class PlainShape {
  handle;
  lastOffset = "-1";
  #url;
  #params;
  #parsers;
  #columns = {};
  #rows = new Map();
  #aborter = new AbortController();
  #onRows = () => {};
  #onStatus = () => {};

  constructor({ url, params, parser }) {
    this.#url = url;
    this.#params = params;
    this.#parsers = { ...Object.fromEntries(NUMBERS.map((type) => [type, Number])), ...parser };
  }

  onStatus(callback) {
    this.#onStatus = callback;
  }

  /** Begins to follow; `callback` gets all rows by key after each change. */
  subscribe(callback) {
    this.#onRows = callback;
    this.#follow();
  }

  stop() {
    this.#aborter.abort();
  }

  async #follow() {
    let isLive = false;
    this.#onStatus("syncing");
    while (!this.#aborter.signal.aborted) {
      try {
        isLive = await this.#request(isLive);
        this.#onStatus(isLive ? "live" : "syncing");
      } catch {
        if (this.#aborter.signal.aborted) return;
        this.#onStatus("retrying");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** One request from the last offset on; answers whether the rows are up to date. */
  async #request(isLive) {
    const position = { offset: this.lastOffset, ...(this.handle && { handle: this.handle }), ...(isLive && { live: "true" }) };
    const query = new URLSearchParams({ ...this.#params, ...position });
    const response = await fetch(`${this.#url}?${query}`, { signal: this.#aborter.signal });
    if (response.status === 409) {
      // The shape is no more: all rows come again, under another handle.
      this.handle = undefined;
      this.lastOffset = "-1";
      this.#rows.clear();
      return false;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    const header = (name) => response.headers.get(`electric-${name}`);
    this.#columns = JSON.parse(header("schema") ?? "null") ?? this.#columns;
    const messages = response.status === 204 ? [] : await response.json();
    for (const message of messages) this.#apply(message);
    this.handle = header("handle") ?? this.handle;
    this.lastOffset = header("offset") ?? this.lastOffset;
    const isUpToDate = messages.some(({ headers }) => headers.control === "up-to-date");
    if (isUpToDate || isLive) this.#onRows({ value: this.#rows });
    return isUpToDate || (isLive && messages.length === 0);
  }

  #apply({ key, value, headers }) {
    if (headers.operation === "delete") this.#rows.delete(key);
    else if (headers.operation) this.#rows.set(key, { ...this.#rows.get(key), ...this.#parsed(value) });
  }

  #parsed(value) {
    const parse = ([name, text]) => [name, text === null ? null : (this.#parsers[this.#columns[name]?.type] ?? String)(text)];
    return Object.fromEntries(Object.entries(value).map(parse));
  }
}
