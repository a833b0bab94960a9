// Item 230: nginx as a cache before the origin, set up as docs/nginx.conf says: requests collapse, replies are kept, and
// no client is held at an old shape. The step `nginx` of `cargo x test` says where the program is.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Shape, ShapeStream } from '@electric-sql/client'
import { Servers, read, shapeUrl, until } from './support.mjs'

/** Live requests at one time. */
const CROWD = 50

/** Requests within which a client must have found its way back after a rotation, the chunks of the shape included. */
const REQUESTS_MAX = 30

describe('230: nginx before the origin', { skip: process.env.NGINX ? false : 'NGINX is not set' }, () => {
  const servers = new Servers()
  let db, origin, nginx

  before(async () => {
    db = await servers.postgres()
    origin = await servers.origin({
      databaseUrl: db.url,
      // Small chunks: some of them are closed. DELETE, to see a handle go.
      env: { LIMN_SHAPE_CHUNK_BYTES_THRESHOLD: '2000', LIMN_ALLOW_SHAPE_DELETION: 'true' },
    })
    nginx = await servers.nginx(process.env.NGINX, origin.url)
  })

  after(() => servers.end())

  async function table(name, rows = 3) {
    await db.query(`CREATE TABLE ${name} (id int4 PRIMARY KEY, label text)`)
    await db.query(`INSERT INTO ${name} SELECT n, repeat('x', 50) FROM generate_series(1, $1) n`, [rows])
  }

  it('lets one of many live requests through, and all have the change', async () => {
    await table('crowd')
    const { headers } = await read(shapeUrl(origin.url, { table: 'crowd', offset: '-1' }))
    const live = { table: 'crowd', offset: '0_inf', handle: headers.get('electric-handle'), live: true, cursor: '' }
    const before = await origin.requestsServed()
    const waiting = Array.from({ length: CROWD }, () => read(shapeUrl(nginx.url, live)))
    await until('one of them waits', () => origin.parkedClients().then((parked) => parked === 1))
    await db.query(`INSERT INTO crowd VALUES (4, 'new')`)
    const replies = await Promise.all(waiting)
    assert.equal((await origin.requestsServed()) - before, 1)
    for (const reply of replies) {
      assert.equal(reply.status, 200)
      assert.equal(reply.text, replies[0].text)
    }
    assert.equal(replies[0].json()[0].value.id, '4')
  })

  it('keeps the initial reply and closed chunks', async () => {
    await table('kept', 200)
    const first = { table: 'kept', offset: '-1' }
    const initial = await read(shapeUrl(nginx.url, first))
    const next = { table: 'kept', offset: '0_0', handle: initial.headers.get('electric-handle') }
    const chunk = await read(shapeUrl(nginx.url, next))
    const before = await origin.requestsServed()
    for (const [params, reply] of [[first, initial], [next, chunk]]) {
      const again = await read(shapeUrl(nginx.url, params))
      assert.equal(again.headers.get('x-cache'), 'HIT')
      assert.equal(again.text, reply.text)
    }
    assert.equal(await origin.requestsServed(), before)
  })

  it('never serves a copy beyond its age, although stale-while-revalidate would allow it', async () => {
    await table('aged')
    const env = { LIMN_CACHE_MAX_AGE: '1', LIMN_CACHE_STALE_AGE: '300', LIMN_REPLICATION_STREAM_ID: 'aged' }
    const aging = await servers.origin({ databaseUrl: db.url, env })
    const cache = await servers.nginx(process.env.NGINX, aging.url)
    const { headers } = await read(shapeUrl(aging.url, { table: 'aged', offset: '-1' }))
    const rest = { table: 'aged', offset: '0_inf', handle: headers.get('electric-handle') }
    const copied = await read(shapeUrl(cache.url, rest))
    assert.equal(copied.headers.get('cache-control'), 'public, max-age=1')
    const age = copied.headers.get('date')
    for (let id = 4; id < 7; id++) {
      await db.query('INSERT INTO aged VALUES ($1, $2)', [id, 'new'])
      await until('the origin has the row', async () => (await read(shapeUrl(aging.url, rest))).text.includes(`"${id}"`))
      await until('the copy is too old', () => Date.now() - Date.parse(age) > (id - 3) * 3_000)
      // All come at once: none of them may have the old copy while another one fetches the new one.
      const replies = await Promise.all(Array.from({ length: 10 }, () => read(shapeUrl(cache.url, rest))))
      for (const reply of replies) {
        assert.ok(reply.text.includes(`"${id}"`), `${reply.headers.get('x-cache')}: without row ${id}`)
      }
    }
  })

  for (const [how, rotate] of [
    ['TRUNCATE', (name) => db.query(`TRUNCATE ${name}`)],
    ['DELETE', (name) => fetch(`${origin.url}/v1/shape?table=${name}`, { method: 'DELETE' })],
  ]) {
    it(`leads old and new clients to the new shape after ${how}, without a loop`, async (t) => {
      const name = `rotated_by_${how.toLowerCase()}`
      await table(name, 100)
      const old = follow(t, name)
      await old.shape.rows
      await until('it waits', () => origin.parkedClients().then((parked) => parked > 0))
      const before = old.requests()
      await rotate(name)
      await db.query(`INSERT INTO ${name} VALUES (1000, 'after')`)
      await until('the old client has the row', async () => (await ids(old.shape)).includes(1000))
      assert.ok(old.requests() - before <= REQUESTS_MAX, `${old.requests() - before} requests`)

      // The initial reply that nginx has kept is of the shape that is no more.
      const late = follow(t, name)
      await until('a new client has the row', async () => (await ids(late.shape)).includes(1000))
      assert.deepEqual(await ids(late.shape), await ids(old.shape))
      assert.ok(late.requests() <= REQUESTS_MAX, `${late.requests()} requests`)
    })
  }

  it('does not keep a stream of events back', async (t) => {
    await table('streamed')
    const { shape } = follow(t, 'streamed', { liveSse: true })
    await shape.rows
    await db.query(`INSERT INTO streamed VALUES (4, 'new')`)
    await until('the change', async () => (await ids(shape)).includes(4))
  })

  /** The npm client through nginx, with a count of its requests. */
  function follow(t, name, options = {}) {
    let requests = 0
    const aborter = new AbortController()
    t.after(() => aborter.abort())
    const stream = new ShapeStream({
      url: `${nginx.url}/v1/shape`,
      params: { table: name },
      signal: aborter.signal,
      fetchClient: (...args) => {
        requests += 1
        return fetch(...args)
      },
      ...options,
    })
    return { shape: new Shape(stream), requests: () => requests }
  }

  async function ids(shape) {
    return (await shape.rows).map(({ id }) => id).toSorted((a, b) => a - b)
  }
})
