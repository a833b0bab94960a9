/** A value as the default parser gives it: other Postgres types stay text. */
export type Value = string | number | bigint | boolean | null | Value[] | { [key: string]: Value };

/** A row of any table; give your own type to `Shape<T>` or `ShapeStream<T>` for more. */
export type Row<Extra = never> = Record<string, Value | Extra>;

export type Operation = "insert" | "update" | "delete";

export interface ChangeMessage<T = Row> {
  /** The row's identity: relation and primary key. */
  key: string;
  /** The row on insert; the key and what changed on update; the key on delete. With `replica: "full"` always the row. */
  value: T;
  /** With `replica: "full"`: the former values of the columns that an update changed. */
  old_value?: Partial<T>;
  headers: {
    operation: Operation;
    relation?: [schema: string, table: string];
    txids?: number[];
    lsn?: string;
    op_position?: number;
    last?: true;
    [name: string]: unknown;
  };
}

export interface ControlMessage {
  headers: {
    control: "up-to-date" | "must-refetch" | "snapshot-end";
    global_last_seen_lsn?: string;
    [name: string]: unknown;
  };
}

export interface EventMessage {
  headers: { event: "move-in" | "move-out"; [name: string]: unknown };
}

export type Message<T = Row> = ChangeMessage<T> | ControlMessage | EventMessage;

type Scalar = string | number | bigint | boolean;

/** What the server gets with every request; entries of your own are for a proxy in front of it. */
export interface ShapeParams {
  /** `table` or `schema.table`. */
  table?: string;
  /** The SQL condition that a row has to meet; `$1`, `$2` stand for `params`. */
  where?: string;
  params?: Scalar[] | Record<`${number}`, Scalar>;
  /** The columns to send; the primary key has to be among them. */
  columns?: string[];
  /** `full` sends whole rows on update and delete too. */
  replica?: "default" | "full";
  [name: string]: Scalar | Scalar[] | Record<string, Scalar> | undefined;
}

/** From Postgres's text format to a value, by type name (`int4`, `timestamptz`, …). */
export type Parser = Record<string, (text: string, column: ColumnInfo) => unknown>;

export interface ColumnInfo {
  type: string;
  dims?: number;
  pk_index?: number;
  not_null?: boolean;
  max_length?: number;
  length?: number;
  precision?: number;
  scale?: number;
  fields?: string;
  type_mod?: number;
}

type MaybePromise<T> = T | Promise<T>;
export type Headers = Record<string, string | (() => MaybePromise<string>)>;

/** A request was refused. */
export interface FetchError extends Error {
  name: "FetchError";
  status: number;
  /** The body, where it is JSON. */
  json?: unknown;
}

export interface ShapeStreamOptions<T = Row> {
  /** The address of `/v1/shape`, of the server, the edge or a proxy; may be relative to the page. */
  url: string;
  params?: ShapeParams;
  /** `changes_only` leaves the initial rows out. */
  log?: "full" | "changes_only";
  /** Go on where an earlier stream ended: both, or `offset: "now"` alone. */
  handle?: string;
  offset?: string;
  /** False ends the stream when it is up to date. */
  subscribe?: boolean;
  /** Sent with every request; functions are called anew for each. */
  headers?: Headers | (() => MaybePromise<Record<string, string>>);
  signal?: AbortSignal;
  parser?: Parser;
  /** Called with each parsed row. */
  transformer?: (row: any) => T;
  fetchClient?: (url: string, init: RequestInit) => Promise<Response>;
  /**
   * Called when the server refuses a request. Return changed parameters or headers (`{}` for none) to try
   * again, nothing to end the stream. Outages are not errors: the stream waits and tries again by itself.
   */
  onError?: (error: Error | FetchError) => MaybePromise<
    void | { params?: ShapeParams; headers?: Record<string, string> }
  >;
}

export type Status = "syncing" | "live" | "retrying" | "paused" | "done" | "failed";
export type Unsubscribe = () => void;

/** Loads the wasm; needed only to load it early or from another place. */
export function init(
  source?: string | URL | Request | Response | BufferSource | WebAssembly.Module | Promise<Response>,
): Promise<void>;

/** How types become values where `parser` says nothing else. */
export const defaultParser: Parser;

/** Follows one shape and hands its messages to callbacks, reply by reply. */
export class ShapeStream<T = Row> {
  constructor(options: ShapeStreamOptions<T>);
  /** Starts the stream at the first call. */
  subscribe(callback: (messages: Message<T>[]) => void, onError?: (error: Error) => void): Unsubscribe;
  unsubscribeAll(): void;
  /** Calls back with the status, now and when it changes. */
  onStatus(callback: (status: Status, error?: Error) => void): Unsubscribe;
  stop(): void;
  readonly status: Status;
  readonly isUpToDate: boolean;
  readonly lastOffset: string;
  readonly handle: string | undefined;
  readonly shapeHandle: string | undefined;
  readonly error: Error | undefined;
  isLoading(): boolean;
  isConnected(): boolean;
  hasStarted(): boolean;
}

/** The rows of a shape, changed only where the server says that changes belong together. */
export class Shape<T = Row> {
  constructor(streamOrOptions: ShapeStream<T> | ShapeStreamOptions<T>);
  readonly stream: ShapeStream<T>;
  /** The rows by key, once the shape is complete. */
  readonly value: Promise<Map<string, T>>;
  /** The rows as a list, once the shape is complete. */
  readonly rows: Promise<T[]>;
  /** The rows as far as they are known. Rows that did not change are the same objects. */
  readonly currentValue: Map<string, T>;
  readonly currentRows: T[];
  readonly size: number;
  readonly isUpToDate: boolean;
  readonly lastOffset: string;
  readonly handle: string | undefined;
  readonly error: Error | undefined;
  isLoading(): boolean;
  isConnected(): boolean;
  subscribe(callback: (update: { value: Map<string, T>; rows: T[] }) => void): Unsubscribe;
  unsubscribeAll(): void;
  onStatus(callback: (status: Status, error?: Error) => void): Unsubscribe;
  /** Ends the stream too. */
  stop(): void;
}
