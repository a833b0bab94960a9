// Shapes that the edge worker derives of a base: what clients come to, and how many shapes the origin has.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { ShapeStream, Shape } from '@electric-sql/client'
import { Servers, read, shapeUrl, until } from './support.mjs'

const SECRET = 'only the worker knows this'
const JWT_SECRET = 'a secret of at least thirty-two bytes'

/** Small, so that a few hundred rows fill several chunks. */
const CHUNK_BYTES = 20_000

const servers = new Servers()
let db, origin, edge, fenced

before(async () => {
  db = await servers.postgres()
  await db.query('CREATE TABLE issues (id int4 PRIMARY KEY, owner int4, title text, done bool)')
  await db.query("INSERT INTO issues SELECT n, n % 300, 'issue ' || n, n % 2 = 0 FROM generate_series(1, 1500) n")
  await db.query('CREATE TABLE notes (id int4 PRIMARY KEY, owner int4, text text, gone bool NOT NULL)')
  await db.query("INSERT INTO notes SELECT n, n % 3, 'note', n > 20 FROM generate_series(1, 30) n")
  await db.query('CREATE TABLE awaited (id int4 PRIMARY KEY, owner int4, title text)')
  const env = { LIMN_SHAPE_CHUNK_BYTES_THRESHOLD: String(CHUNK_BYTES) }
  origin = await servers.origin({ databaseUrl: db.url, secret: SECRET, env })
  const variables = { LIMN_DERIVE: 'issues; awaited; public.notes where not gone' }
  edge = await servers.edge({ origin: origin.url, secret: SECRET, variables })
  fenced = await servers.edge({ origin: origin.url, secret: SECRET, variables: { ...variables, LIMN_JWT_SECRET: JWT_SECRET } })
})

after(() => servers.end())

const authorization = { authorization: `Bearer ${SECRET}` }

function token(claims) {
  const encoded = (json) => Buffer.from(JSON.stringify(json)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + 600
  const signed = `${encoded({ alg: 'HS256' })}.${encoded({ exp, ...claims })}`
  return `${signed}.${createHmac('sha256', JWT_SECRET).update(signed).digest('base64url')}`
}

/** All messages up to the end of the log, with what the last reply says of its place. */
async function log(base, params, headers = authorization) {
  const messages = []
  let [offset, handle] = ['-1', undefined]
  for (;;) {
    const reply = await read(shapeUrl(base.url, { ...params, offset, ...(handle && { handle }) }), headers)
    assert.equal(reply.status, 200, reply.text)
    messages.push(...reply.json())
    assert.ok(reply.json().length > 0, 'a reply says something')
    handle = reply.headers.get('electric-handle')
    offset = reply.headers.get('electric-offset')
    if (reply.headers.get('electric-up-to-date') !== null) {
      return { messages, handle, offset, schema: JSON.parse(reply.headers.get('electric-schema')) }
    }
  }
}

/** The rows that a log comes to, by their keys; nothing comes twice or goes twice. */
function rowsOf(messages) {
  const rows = new Map()
  for (const { key, value, headers } of messages) {
    if (key === undefined) continue
    assert.equal(rows.has(key), headers.operation !== 'insert', `${headers.operation} of ${key}`)
    if (headers.operation === 'delete') rows.delete(key)
    else rows.set(key, { ...rows.get(key), ...value })
  }
  return rows
}

/** The origin's own count of its shapes, which it brings up to date every five seconds. */
const COUNTED_MS = 15_000
const shapesAre = (count) => until(`the origin has ${count} shapes`, async () => (await origin.shapes()) === count, COUNTED_MS)

function follow(params, base = edge, headers = authorization) {
  const abort = new AbortController()
  const stream = new ShapeStream({ url: `${base.url}/v1/shape`, params, headers, signal: abort.signal })
  const shape = new Shape(stream)
  const until = async (holds) => {
    while (!holds(shape.currentRows)) await new Promise((resolve) => shape.subscribe(resolve))
  }
  return { shape, until, end: () => abort.abort() }
}

/** So many polls, and so many streams of events, of different clauses. */
const WAITING = 100

/** What a stream of events says up to the end of the first commit that it tells of. */
async function told(body) {
  let text = ''
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    text += part
    if (text.includes('up-to-date')) break
  }
  return text
}

const ids = (rows) => rows.map(({ id }) => id).sort((a, b) => a - b)

describe('derived shapes', () => {
  it('are many at the edge and one at the origin', async () => {
    const owners = Array.from({ length: 300 }, (_, owner) => owner)
    for (let at = 0; at < owners.length; at += 20) {
      await Promise.all(
        owners.slice(at, at + 20).map(async (owner) => {
          const { messages } = await log(edge, { table: 'issues', where: `owner = ${owner}`, columns: 'id,title' })
          const rows = [...rowsOf(messages).values()]
          assert.equal(rows.length, 5)
          assert.ok(rows.every((row) => Number(row.id) % 300 === owner && row.owner === undefined))
        }),
      )
    }
    await shapesAre(1)
  })

  it('are what the origin has under the same request', async () => {
    for (const params of [
      { table: 'issues', where: 'owner < $1 AND done', 'params[1]': '3' },
      { table: 'issues', where: "title LIKE '%99'", replica: 'full' },
      { table: 'issues', columns: 'id,done' },
      { table: 'notes', where: 'NOT gone AND owner = 1' },
      { table: 'issues', where: 'owner = 1000' },
    ]) {
      const derived = await log(edge, params)
      const own = await log(origin, params)
      assert.deepEqual(rowsOf(derived.messages), rowsOf(own.messages))
      assert.deepEqual(derived.schema, own.schema)
      assert.notEqual(derived.handle, own.handle)
    }
  })

  it('are left to the origin where the worker cannot judge', async () => {
    for (const where of ['owner = 1', "lower(text) = 'note' AND NOT gone"]) {
      const { messages } = await log(edge, { table: 'notes', where })
      assert.equal(rowsOf(messages).size, where === 'owner = 1' ? 10 : 20)
    }
    await shapesAre(2 + 5 + 2)
    const wrong = await read(shapeUrl(edge.url, { table: 'issues', where: 'nope = 1', offset: '-1' }), authorization)
    assert.equal(wrong.status, 400)
  })

  // Before others follow: the hub of a shape that nobody follows any more waits at the origin for some seconds.
  it('wait at the origin as one, however many wait for them', async () => {
    const narrow = (owner) => ({ table: 'awaited', where: `owner = ${owner}`, columns: 'id,title' })
    const { handle, offset } = await log(edge, narrow(0))
    const waiting = (owner, more) => shapeUrl(edge.url, { ...narrow(owner), handle, offset, live: 'true', ...more })
    const polls = Array.from({ length: WAITING }, (_, owner) => read(waiting(owner), authorization))
    const abort = new AbortController()
    const streams = await Promise.all(
      Array.from({ length: WAITING }, async (_, owner) => {
        const url = waiting(owner, { live_sse: 'true' })
        const reply = await fetch(url, { headers: authorization, signal: abort.signal })
        assert.equal(reply.status, 200)
        return { text: told(reply.body) }
      }),
    )
    await until('one request waits at the origin', async () => (await origin.parkedClients()) === 1)
    const served = await origin.requestsServed()
    await db.query("INSERT INTO awaited VALUES (9001, 7, 'of one')")
    for (const [owner, reply] of (await Promise.all(polls)).entries()) {
      assert.equal(reply.status, 200, reply.text)
      assert.match(reply.headers.get('cache-status'), /detail=hub/)
      const shown = reply.json().flatMap(({ value }) => (value ? [value.id] : []))
      assert.deepEqual(shown, owner === 7 ? ['9001'] : [])
    }
    for (const [owner, text] of (await Promise.all(streams.map(({ text }) => text))).entries()) {
      assert.equal(text.includes('9001'), owner === 7, text)
    }
    await until('one request waits again', async () => (await origin.parkedClients()) === 1)
    assert.ok((await origin.requestsServed()) - served <= 3, 'nobody else asked the origin')
    abort.abort()
  })

  for (const replica of ['default', 'full']) {
    it(`follow rows that move in and out, with replica=${replica}`, async () => {
      const params = { table: 'issues', where: 'owner = 7777', columns: 'id,title,owner', replica }
      const one = follow(params)
      const other = follow({ ...params, where: 'owner = 8888' })
      await one.shape.rows
      await other.shape.rows
      await db.query("INSERT INTO issues VALUES (5001, 7777, 'a', true), (5002, 7777, 'b', true), (5003, 1, 'c', true)")
      await one.until((rows) => rows.length === 2)
      await db.query('UPDATE issues SET done = NOT done WHERE id IN (5001, 5002)')
      await db.query('UPDATE issues SET owner = 8888 WHERE id = 5001')
      await db.query('UPDATE issues SET owner = 7777 WHERE id = 5003')
      await other.until((rows) => rows.length === 1)
      await one.until((rows) => ids(rows).join() === '5002,5003')
      await db.query("UPDATE issues SET id = 5010, title = 'moved' WHERE id = 5002")
      await one.until((rows) => ids(rows).join() === '5003,5010')
      assert.equal(one.shape.currentRows.find(({ id }) => id === 5010).title, 'moved')
      assert.equal(one.shape.currentRows.find(({ id }) => id === 5010).done, undefined)
      // The end of a log is kept for moments.
      await until('a client that comes later is told the same', async () => {
        const late = await log(edge, params)
        return ids([...rowsOf(late.messages).values()]).join() === '5003,5010'
      })
      await db.query('DELETE FROM issues WHERE id > 5000')
      await one.until((rows) => rows.length === 0)
      await other.until((rows) => rows.length === 0)
      one.end()
      other.end()
    })
  }

  it('follow a stream of events', async () => {
    const { handle, offset } = await log(edge, { table: 'issues', where: 'owner = 6666' })
    const url = shapeUrl(edge.url, { table: 'issues', where: 'owner = 6666', handle, offset, live: 'true', live_sse: 'true' })
    const abort = new AbortController()
    const reply = await fetch(url, { headers: authorization, signal: abort.signal })
    assert.match(reply.headers.get('content-type'), /event-stream/)
    await db.query("INSERT INTO issues VALUES (6001, 1, 'not', true), (6002, 6666, 'shown', true)")
    let text = ''
    for await (const chunk of reply.body.pipeThrough(new TextDecoderStream())) {
      text += chunk
      if (text.includes('shown') && text.includes('up-to-date')) break
    }
    assert.ok(!text.includes('6001'))
    abort.abort()
    await db.query('DELETE FROM issues WHERE id > 6000')
  })

  it('begin again when their base does', async () => {
    const following = follow({ table: 'notes', where: 'NOT gone AND owner = 0' })
    assert.equal((await following.shape.rows).length, 6)
    await db.query('TRUNCATE notes')
    await db.query("INSERT INTO notes VALUES (1, 0, 'new', false), (2, 0, 'gone', true)")
    await following.until((rows) => ids(rows).join() === '1')
    await db.query('ALTER TABLE notes ADD COLUMN more text')
    await db.query("INSERT INTO notes VALUES (3, 0, 'x', false, 'y')")
    await following.until((rows) => rows.some(({ more }) => more === 'y'))
    following.end()
  })

  it('keep the bearer of a token in', async () => {
    const headers = { authorization: `Bearer ${token({ impose: { table: 'issues', where: 'owner = $1', params: [5], columns: ['id', 'title'] } })}` }
    const { messages, schema } = await log(fenced, { table: 'issues', where: 'id < 1000' }, headers)
    const rows = [...rowsOf(messages).values()]
    assert.deepEqual(Object.keys(schema).sort(), ['id', 'title'])
    assert.ok(rows.length === 4 && rows.every((row) => Number(row.id) % 300 === 5 && row.owner === undefined))
    const outside = await read(shapeUrl(fenced.url, { table: 'issues', where: 'owner = 6', offset: '-1' }), headers)
    assert.equal(outside.status, 403)
  })

  it('are told the head alone', async () => {
    const url = shapeUrl(edge.url, { table: 'issues', where: 'owner = 5', columns: 'id', offset: '-1' })
    const reply = await fetch(url, { method: 'HEAD', headers: authorization })
    assert.equal(reply.status, 200)
    assert.deepEqual(Object.keys(JSON.parse(reply.headers.get('electric-schema'))), ['id'])
    assert.equal(reply.headers.get('etag'), null)
    assert.equal(await reply.text(), '')
  })

  it('have a log that goes on behind a restart of the origin', async () => {
    const params = { table: 'issues', where: 'owner = 9' }
    const before = await log(edge, params)
    await origin.stopAndStart()
    await until('the origin answers', async () => (await read(shapeUrl(edge.url, { ...params, offset: '-1' }), authorization)).status === 200)
    assert.equal((await log(edge, params)).handle, before.handle)
  })
})
