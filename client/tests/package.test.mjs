// The JavaScript layer, on the package that `cargo x client build` made.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Shape, ShapeStream } from "../pkg/index.js";
import { parseArray, rowParser } from "../pkg/values.js";

const SCHEMA = JSON.stringify({
  id: { type: "int8", pk_index: 0 },
  n: { type: "int4" },
  done: { type: "bool" },
  doc: { type: "jsonb" },
  tags: { type: "text", dims: 1 },
  at: { type: "timestamptz" },
});

const UP_TO_DATE = { headers: { control: "up-to-date" } };

function change(operation, key, value, lsn) {
  return { key, value, headers: { operation, ...(lsn && { lsn: String(lsn), op_position: 0 }) } };
}

function log(offset, messages, headers = {}) {
  const all = { "electric-handle": "h1", "electric-offset": offset, "electric-schema": SCHEMA, "electric-cursor": "1", ...headers };
  return new Response(JSON.stringify(messages), { headers: all });
}

/** A `fetch` that answers from a list and leaves later requests open until they are aborted. */
function scripted(replies) {
  const requests = [];
  const fetchClient = async (url, init) => {
    requests.push({ url: new URL(url), headers: init.headers });
    if (replies.length > 0) return replies.shift();
    return new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  return { requests, fetchClient };
}

const options = (fetchClient, more) => ({ url: "http://limn.test/v1/shape", params: { table: "t" }, fetchClient, ...more });

test("values get the types of the schema", () => {
  const parse = rowParser(SCHEMA, { timestamptz: (text) => new Date(text) });
  const row = { id: "9007199254740993", n: "7", done: "t", doc: '{"a":[1]}', tags: '{x,NULL,"a \\"b\\", c"}', at: "2026-02-03 04:05:06+00" };
  assert.deepEqual(parse(row), {
    id: 9007199254740993n,
    n: 7,
    done: true,
    doc: { a: [1] },
    tags: ["x", null, 'a "b", c'],
    at: new Date("2026-02-03T04:05:06Z"),
  });
  assert.deepEqual(parse({ id: null, done: "false" }), { id: null, done: false });
});

test("arrays of every form are read", () => {
  assert.deepEqual(parseArray("{}", String), []);
  assert.deepEqual(parseArray("{{1,2},{3,NULL}}", Number), [[1, 2], [3, null]]);
  assert.deepEqual(parseArray("[0:1]={7,8}", Number), [7, 8]);
  assert.deepEqual(parseArray('{"NULL","",  }', String).slice(0, 2), ["NULL", ""]);
  assert.deepEqual(parseArray('{"a\\\\b",{', String)[0], "a\\b");
});

test("a shape gives typed rows, keeps unchanged ones, and follows", async () => {
  let sendChange;
  const later = new Promise((resolve) => (sendChange = resolve));
  const { requests, fetchClient } = scripted([
    log("0_0", [change("insert", "a", { id: "1", n: "1" }), change("insert", "b", { id: "2", n: "2" })]),
    log("0_inf", [UP_TO_DATE]),
    later,
  ]);
  const shape = new Shape(options(fetchClient, { params: { table: "t", where: "n > $1", params: [0] } }));
  const before = await shape.rows;
  assert.deepEqual(before, [{ id: 1n, n: 1 }, { id: 2n, n: 2 }]);
  const changed = new Promise((resolve) => shape.subscribe(resolve));
  sendChange(log("9_0", [change("update", "b", { id: "2", n: "5" }, 9), change("insert", "c", { id: "3" }, 10), UP_TO_DATE]));
  const { rows, value } = await changed;
  assert.deepEqual(rows, [{ id: 1n, n: 1 }, { id: 2n, n: 5 }, { id: 3n }]);
  assert.equal(rows[0], before[0]);
  assert.deepEqual([...value.keys()], ["a", "b", "c"]);
  assert.equal(requests[0].url.searchParams.get("params[1]"), "0");
  shape.stop();
  assert.equal(shape.stream.status, "done");
});

test("a stream gives messages, headers are made anew, a refusal can be mended", async () => {
  let token = 0;
  const { requests, fetchClient } = scripted([
    new Response('{"message":"no"}', { status: 401 }),
    log("0_inf", [change("insert", "a", { id: "1" }), UP_TO_DATE]),
  ]);
  const stream = new ShapeStream(
    options(fetchClient, {
      subscribe: false,
      headers: { authorization: async () => `Bearer ${++token}` },
      transformer: (row) => ({ ...row, seen: true }),
      onError: (error) => (error.status === 401 && error.json.message === "no" ? { headers: { extra: "1" } } : undefined),
    }),
  );
  const messages = await new Promise((resolve) => stream.subscribe(resolve));
  assert.deepEqual(messages[0].value, { id: 1n, seen: true });
  assert.deepEqual(requests.map(({ headers }) => headers), [
    { authorization: "Bearer 1" },
    { authorization: "Bearer 2", extra: "1" },
  ]);
});

test("an error reaches whoever waits", async () => {
  const { fetchClient } = scripted([new Response('{"message":"Invalid request"}', { status: 400 })]);
  const shape = new Shape(options(fetchClient));
  await assert.rejects(shape.rows, { name: "FetchError", status: 400 });
  assert.equal(shape.stream.status, "failed");
  await assert.rejects(shape.value, { status: 400 });
  const reserved = new Shape(options(fetchClient, { params: { table: "t", offset: "7_0" } }));
  await assert.rejects(reserved.rows, /parameter `offset` is set by the client/);
  assert.throws(() => new Shape({}), /missing option `url`/);
});

test("an abort signal ends the stream before and after its start", async () => {
  const controller = new AbortController();
  const { requests, fetchClient } = scripted([log("0_0", []), log("0_inf", [UP_TO_DATE])]);
  const shape = new Shape(options(fetchClient, { signal: controller.signal }));
  assert.deepEqual(await shape.rows, []);
  controller.abort();
  assert.equal(shape.stream.status, "done");
  const asked = requests.length;
  new Shape(options(fetchClient, { signal: AbortSignal.abort() }));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(requests.length, asked);
});
