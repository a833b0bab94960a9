// The live hub of the edge worker, in workerd before a real origin: many clients, one request at the origin.

import assert from 'node:assert/strict'
import { get } from 'node:http'
import { after, before, beforeEach, describe, it } from 'node:test'
import { Shape, ShapeStream } from '@electric-sql/client'
import { Servers, read, readToEnd, shapeUrl, until } from './support.mjs'

/** As many as one object serves. */
const CLIENTS = 500

const servers = new Servers()
let db, origin, edge, places

before(async () => {
  db = await servers.postgres()
  await db.query('CREATE TABLE crates (id int4 PRIMARY KEY, label text)')
  await db.query("INSERT INTO crates SELECT n, 'crate ' || n FROM generate_series(1, 10) n")
  origin = await servers.origin({ databaseUrl: db.url, env: { LIMN_ALLOW_SHAPE_DELETION: 'true' } })
  edge = await servers.edge({ origin: origin.url })
})

after(() => servers.end())

/** Each test follows a shape that no other test follows. */
let made = 0
beforeEach(async () => {
  made += 1
  places = (await readToEnd(edge.url, { table: 'crates', where: `id > -${made}` })).at
})

const poll = (at, more = {}) => read(shapeUrl(edge.url, { ...at, live: 'true', ...more }))
const inserted = (reply) => reply.json().filter(({ headers }) => headers.operation === 'insert').map(({ value }) => value.id)
const oneWaits = () => until('one request waits at the origin', async () => (await origin.parkedClients()) === 1)

describe('the live hub', () => {
  it(`holds one request at the origin for ${CLIENTS} clients, and tells all of them`, async () => {
    const served = await origin.requestsServed()
    const polls = Array.from({ length: CLIENTS }, () => poll(places))
    await oneWaits()
    await db.query('INSERT INTO crates VALUES (100, $1)', ['for all'])
    const replies = await Promise.all(polls)
    for (const reply of replies) {
      assert.equal(reply.status, 200, reply.text)
      assert.deepEqual(inserted(reply), ['100'])
      assert.match(reply.headers.get('cache-status'), /collapsed/)
      assert.equal(reply.headers.get('electric-offset'), replies[0].headers.get('electric-offset'))
    }
    assert.equal((await origin.requestsServed()) - served, 1)
    await db.query('DELETE FROM crates WHERE id = 100')
  })

  it('gives a client that is behind what it lacks, without the origin', async () => {
    const waiting = poll(places)
    await oneWaits()
    await db.query("INSERT INTO crates VALUES (101, 'a'), (102, 'b')")
    const first = await waiting
    const behind = await poll(places)
    assert.deepEqual(behind.json(), first.json())
    await db.query('DELETE FROM crates WHERE id > 100')
  })

  it('raises the cursor with each reply', async () => {
    let [at, last] = [places, 0]
    for (const id of [103, 104, 105]) {
      const waiting = poll(at, { cursor: String(last) })
      await oneWaits()
      await db.query("INSERT INTO crates VALUES ($1, 'x')", [id])
      const { headers } = await waiting
      const cursor = Number(headers.get('electric-cursor'))
      assert.ok(cursor > last, `${cursor} after ${last}`)
      last = cursor
      at = { ...at, offset: headers.get('electric-offset') }
    }
    await db.query('DELETE FROM crates WHERE id > 100')
  })

  it('tells all who wait that a shape goes on under another handle', async () => {
    const polls = Array.from({ length: 20 }, () => poll(places))
    await oneWaits()
    const { table, where, handle } = places
    const deleted = await fetch(shapeUrl(origin.url, { table, where, handle }), { method: 'DELETE' })
    assert.ok(deleted.ok, await deleted.text())
    for (const reply of await Promise.all(polls)) {
      assert.equal(reply.status, 409)
      assert.deepEqual(reply.json(), [{ headers: { control: 'must-refetch' } }])
    }
  })

  it('says 503 while the origin is away, and goes on when it is back', async () => {
    const waiting = poll(places)
    await oneWaits()
    await origin.stopAndStart()
    const reply = await waiting
    assert.ok([200, 503].includes(reply.status), reply.text)
    const again = poll(places)
    await oneWaits()
    await db.query("INSERT INTO crates VALUES (107, 'back')")
    assert.deepEqual(inserted(await again), ['107'])
    await db.query('DELETE FROM crates WHERE id > 100')
  })

  it('leaves to the origin what it cannot tell itself', async () => {
    const unknown = await poll({ ...places, table: 'nothing' })
    assert.equal(unknown.status, 400, unknown.text)
  })

  // An object learns that a stream's client has gone only when it writes: from here on their requests stay for a while.
  it('streams events to many over the same request', async () => {
    const abort = new AbortController()
    const url = shapeUrl(edge.url, { ...places, live: 'true', live_sse: 'true' })
    const streams = await Promise.all(Array.from({ length: 50 }, () => fetch(url, { signal: abort.signal })))
    assert.equal(streams[0].headers.get('content-type'), 'text/event-stream')
    assert.equal(streams[0].headers.get('electric-offset'), places.offset)
    await oneWaits()
    await db.query("INSERT INTO crates VALUES (106, 'event')")
    const texts = streams.map(async ({ body }) => {
      let text = ''
      for await (const part of body.pipeThrough(new TextDecoderStream())) {
        text += part
        if (text.includes('up-to-date')) return text
      }
      return text
    })
    for (const text of await Promise.all(texts)) assert.match(text, /^data: \{.*"106".*\n\ndata: .*up-to-date/s)
    abort.abort()
    await db.query('DELETE FROM crates WHERE id > 100')
  })

  for (const liveSse of [false, true]) {
    it(`serves the npm client ${liveSse ? 'by events' : 'by polls'}`, async () => {
      const abort = new AbortController()
      const params = { table: places.table, where: places.where }
      const stream = new ShapeStream({ url: `${edge.url}/v1/shape`, params, liveSse, signal: abort.signal })
      const shape = new Shape(stream)
      await shape.rows
      for (const id of [108, 109, 110]) {
        await db.query("INSERT INTO crates VALUES ($1, 'x')", [id])
        await until(`row ${id} is there`, () => shape.currentRows.some((row) => row.id === id))
      }
      await db.query('DELETE FROM crates WHERE id > 100')
      await until('they are gone', () => shape.currentRows.length === 10)
      abort.abort()
    })
  }

  // Past `EVENTS_WAITING_MAX` of them a stream ends; what the sockets hold comes on top.
  it('ends the stream of a client that does not read, and no other', async () => {
    const url = shapeUrl(edge.url, { ...places, live: 'true', live_sse: 'true' })
    const slow = await paused(url)
    const abort = new AbortController()
    const quick = await fetch(url, { signal: abort.signal })
    const seen = collected(quick.body)
    const last = 200
    for (let id = 1001; id <= 1000 + last; id += 1) {
      await db.query("INSERT INTO crates VALUES ($1, repeat('x', 60000))", [id])
      await until(`row ${id} is told`, () => seen.text.includes(`"${id}"`))
    }
    abort.abort()
    const got = await slow.rest()
    assert.ok(got.length < last * 60_000, `${got.length} bytes came`)
    await db.query('DELETE FROM crates WHERE id > 100')
  })
})

/** A request whose reply nobody reads until `rest` does, to its end. */
async function paused(url) {
  const reply = await new Promise((resolve, reject) => get(url, resolve).once('error', reject))
  return {
    rest: async () => {
      let text = ''
      for await (const part of reply) text += part
      return text
    },
  }
}

/** The text of a body, as it comes. */
function collected(body) {
  const seen = { text: '' }
  const read = async () => {
    for await (const part of body.pipeThrough(new TextDecoderStream())) seen.text = seen.text.slice(-200_000) + part
  }
  read().catch(() => {})
  return seen
}
