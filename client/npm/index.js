// The package's face: typed rows and messages over the wasm client.

import load, { Shape as WasmShape, ShapeStream as WasmStream } from "./limn_client.js";
import { rowParser } from "./values.js";

export { defaultParser } from "./values.js";

let loaded;

/**
 * Loads the wasm. Streams call it themselves; call it first to load from another place (a URL, a
 * `Response`, bytes or a `WebAssembly.Module`) or to load early.
 */
export function init(source) {
  loaded ??= (async () => {
    await load({ module_or_path: await (source ?? packagedWasm()) });
  })();
  return loaded;
}

async function packagedWasm() {
  const url = new URL("limn_client_bg.wasm", import.meta.url);
  if (url.protocol !== "file:" || typeof process === "undefined") return url;
  // Node's fetch does not read files. The name is in a variable to stay out of bundlers' sight.
  const module = "node:fs/promises";
  const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ module);
  return readFile(url);
}

/** Follows one shape and hands its messages to callbacks, reply by reply. */
export class ShapeStream {
  #options;
  #wasm;
  #ready;
  #error;
  #isStopped = false;
  #subscribers = new Set();
  #statusWatchers = new Set();
  #isListening = false;
  #schema;
  #parseRow = (row) => row;
  #unwatch = () => {};

  constructor(options) {
    if (!options?.url) throw new TypeError("missing option `url`: the address of /v1/shape");
    const url = new URL(options.url, globalThis.document?.baseURI ?? globalThis.location?.href);
    this.#options = { ...options, headers: options.headers ?? {} };
    this.#ready = init().then(() => this.#create(url));
    this.#ready.catch((error) => this.#fail(error));
    if (options.signal?.aborted) this.stop();
    options.signal?.addEventListener("abort", () => this.stop(), { once: true });
  }

  /** Calls back with each reply's messages; starts the stream. Returns the function that unsubscribes. */
  subscribe(callback, onError) {
    const subscriber = { callback, onError };
    this.#subscribers.add(subscriber);
    this.#whenReady((wasm) => this.#listen(wasm));
    if (this.#error !== undefined) onError?.(this.#error);
    return () => this.#subscribers.delete(subscriber);
  }

  unsubscribeAll() {
    this.#subscribers.clear();
  }

  /** Calls back with the status, now and when it changes. Returns the function that unsubscribes. */
  onStatus(callback) {
    this.#statusWatchers.add(callback);
    callback(this.status, this.#error);
    return () => this.#statusWatchers.delete(callback);
  }

  /** Ends the stream for good. */
  stop() {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#unwatch();
    this.#wasm?.stop();
    if (!this.#wasm) this.#showStatus("done");
  }

  get status() {
    if (this.#error !== undefined) return "failed";
    return this.#wasm?.status ?? (this.#isStopped ? "done" : "syncing");
  }

  get isUpToDate() {
    return this.#wasm?.isUpToDate ?? false;
  }

  get lastOffset() {
    return this.#wasm?.lastOffset ?? this.#options.offset ?? "-1";
  }

  get shapeHandle() {
    return this.#wasm?.handle ?? this.#options.handle;
  }

  get handle() {
    return this.shapeHandle;
  }

  get error() {
    return this.#error;
  }

  isLoading() {
    return !this.isUpToDate;
  }

  isConnected() {
    return this.status === "live" || this.status === "syncing";
  }

  hasStarted() {
    return this.#isListening;
  }

  /** For `Shape`: what has to be done with the wasm stream once it is there. */
  _attach(attach) {
    this.#whenReady(attach);
  }

  /** For `Shape`: gives a row's values their types. */
  _typed(row) {
    this.#useSchema(this.#wasm?.schema);
    return this.#parseRow(row);
  }

  #create(url) {
    if (this.#isStopped) return;
    const { params = {}, log, handle, offset, subscribe = true, fetchClient } = this.#options;
    const parameters = { ...Object.fromEntries(url.searchParams), ...(log && { log }), ...params };
    url.search = "";
    url.hash = "";
    const hooks = {
      fetch: fetchClient && ((...request) => fetchClient(...request)),
      headers: () => resolveHeaders(this.#options.headers),
      onError: (error) => this.#handleError(error),
    };
    const json = JSON.stringify(parameters, (_, value) => (typeof value === "bigint" ? `${value}` : value));
    this.#wasm = new WasmStream(url.href, json, handle, offset, subscribe, hooks);
    this.#wasm.subscribeStatus((status, error) => {
      if (status === "failed") this.#fail(error);
      else this.#showStatus(status);
    });
    this.#watchVisibility(this.#wasm);
  }

  #whenReady(use) {
    this.#ready.then(() => this.#wasm && !this.#isStopped && use(this.#wasm)).catch((error) => this.#fail(error));
  }

  #listen(wasm) {
    if (this.#isListening) return;
    this.#isListening = true;
    wasm.subscribe((text, schema) => this.#publish(text, schema));
  }

  #publish(text, schema) {
    if (this.#subscribers.size === 0) return;
    this.#useSchema(schema);
    const messages = JSON.parse(text);
    for (const message of messages) {
      if (message.value) message.value = this.#parseRow(message.value);
      if (message.old_value) message.old_value = this.#parseRow(message.old_value);
    }
    for (const { callback } of [...this.#subscribers]) guarded(callback, messages);
  }

  #useSchema(schema) {
    if (schema === undefined || schema === this.#schema) return;
    this.#schema = schema;
    const parse = rowParser(schema, this.#options.parser);
    const { transformer } = this.#options;
    this.#parseRow = transformer ? (row) => transformer(parse(row)) : parse;
  }

  async #handleError(error) {
    const answer = await this.#options.onError?.(error);
    if (answer === null || typeof answer !== "object") return undefined;
    if (answer.headers) this.#options.headers = { ...this.#options.headers, ...answer.headers };
    return JSON.stringify(answer.params ?? {});
  }

  #fail(error) {
    if (this.#error !== undefined) return;
    this.#error = error ?? new Error("the stream failed");
    this.#unwatch();
    this.#showStatus("failed");
    for (const { onError } of [...this.#subscribers]) if (onError) guarded(onError, this.#error);
  }

  #showStatus(status) {
    for (const watcher of [...this.#statusWatchers]) guarded(watcher, status, this.#error);
  }

  /** A hidden page holds no connection: browsers have few, and may freeze the page anyway. */
  #watchVisibility(wasm) {
    const page = globalThis.document;
    if (!page?.addEventListener) return;
    const follow = () => (page.hidden ? wasm.pause() : wasm.resume());
    page.addEventListener("visibilitychange", follow);
    this.#unwatch = () => page.removeEventListener("visibilitychange", follow);
    follow();
  }
}

/** The rows of a shape, changed only where the server says that changes belong together. */
export class Shape {
  #stream;
  #wasm;
  #view;
  #rows;
  #subscribers = new Set();

  constructor(streamOrOptions) {
    const isStream = streamOrOptions instanceof ShapeStream;
    this.#stream = isStream ? streamOrOptions : new ShapeStream(streamOrOptions);
    this.#stream._attach((stream) => {
      this.#wasm = new WasmShape(stream);
      this.#wasm.subscribe((delta) => this.#apply(delta));
    });
  }

  get stream() {
    return this.#stream;
  }

  /** The rows by key, once the shape is complete. */
  get value() {
    return new Promise((resolve, reject) => this.#whenComplete(() => resolve(this.currentValue), reject));
  }

  /** The rows as a list, once the shape is complete. */
  get rows() {
    return new Promise((resolve, reject) => this.#whenComplete(() => resolve(this.currentRows), reject));
  }

  /** The rows by key, as far as they are known. Rows that did not change are the same objects. */
  get currentValue() {
    this.#view ??= this.#read();
    return this.#view;
  }

  get currentRows() {
    this.#rows ??= [...this.currentValue.values()];
    return this.#rows;
  }

  get isUpToDate() {
    return this.#stream.isUpToDate;
  }

  get lastOffset() {
    return this.#stream.lastOffset;
  }

  get handle() {
    return this.#stream.handle;
  }

  get error() {
    return this.#stream.error;
  }

  get size() {
    return this.#wasm?.size ?? 0;
  }

  isLoading() {
    return !this.#wasm?.isComplete;
  }

  isConnected() {
    return this.#stream.isConnected();
  }

  /** Calls back with `{ value, rows }` whenever rows have changed. Returns the function that unsubscribes. */
  subscribe(callback) {
    this.#subscribers.add(callback);
    return () => this.#subscribers.delete(callback);
  }

  unsubscribeAll() {
    this.#subscribers.clear();
  }

  onStatus(callback) {
    return this.#stream.onStatus(callback);
  }

  /** Ends the stream too. */
  stop() {
    this.#stream.stop();
  }

  #whenComplete(done, failed) {
    if (this.#wasm?.isComplete) return done();
    if (this.error !== undefined) return failed(this.error);
    const end = (settle) => (argument) => {
      unsubscribe();
      unwatch();
      settle(argument);
    };
    const unsubscribe = this.subscribe(end(done));
    const unwatch = this.onStatus((status, error) => {
      if (status === "failed") queueMicrotask(() => end(failed)(error));
    });
  }

  #apply(delta) {
    this.#rows = undefined;
    if (delta === undefined) this.#view = undefined;
    else if (this.#view) this.#view = this.#changed(JSON.parse(delta));
    const shape = this;
    const update = {
      get value() {
        return shape.currentValue;
      },
      get rows() {
        return shape.currentRows;
      },
    };
    for (const callback of [...this.#subscribers]) guarded(callback, update);
  }

  #read() {
    if (!this.#wasm?.isComplete) return new Map();
    return new Map(this.#typed(JSON.parse(this.#wasm.rowsJson())));
  }

  #changed({ upserted, deleted }) {
    const view = new Map(this.#view);
    for (const key of deleted) view.delete(key);
    for (const [key, row] of this.#typed(upserted)) view.set(key, row);
    return view;
  }

  #typed(rows) {
    return rows.map(([key, row]) => [key, this.#stream._typed(row)]);
  }
}

async function resolveHeaders(headers) {
  const given = typeof headers === "function" ? await headers() : headers;
  const resolve = async ([name, value]) => [name, typeof value === "function" ? await value() : value];
  return Object.fromEntries(await Promise.all(Object.entries(given ?? {}).map(resolve)));
}

/** An exception in a callback is its owner's; the stream goes on. */
function guarded(callback, ...values) {
  try {
    callback(...values);
  } catch (error) {
    console.error(error);
  }
}
