// The unmodified `@electric-sql/client`, against the origin and again through the edge worker, both secured.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Shape, ShapeStream } from '@electric-sql/client'
import { Servers, read, shapeUrl, until } from './support.mjs'

const SECRET = 'a secret only for this test'

const ROWS = 10_000

const servers = new Servers()
let db, origin, edge

before(async () => {
  db = await servers.postgres()
  origin = await servers.origin({ databaseUrl: db.url, secret: SECRET })
  edge = await servers.edge({ origin: origin.url, secret: SECRET })
})

after(() => servers.end())

for (const [through, base] of [
  ['the origin', () => origin.url],
  ['the edge worker', () => edge.url],
]) {
  describe(`the npm client through ${through}`, () => {
    const prefix = through === 'the origin' ? 'o' : 'e'

    it(`syncs ${ROWS} rows that were there before`, async (t) => {
      const table = `${prefix}_initial`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text NOT NULL, weight float8, tags text[])`)
      await db.query(
        `INSERT INTO ${table} SELECT n, 'crate ' || n, n / 4.0, ARRAY['a', 'n' || n] FROM generate_series(1, $1) n`,
        [ROWS],
      )
      const shape = follow(t, base(), { table })
      const rows = await shape.rows
      assert.equal(rows.length, ROWS)
      const row = rows.find(({ id }) => id === 4711)
      assert.deepEqual(row, { id: 4711, label: 'crate 4711', weight: 1177.75, tags: ['a', 'n4711'] })
    })

    it('follows inserts, updates and deletes', async (t) => {
      const table = `${prefix}_changes`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text, note text)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'bolts', NULL), (2, 'nuts', 'left')`)
      const shape = follow(t, base(), { table })
      assert.deepEqual(await labels(shape), { 1: 'bolts', 2: 'nuts' })

      await db.query(`INSERT INTO ${table} VALUES (3, 'screws', NULL)`)
      await until('the insert', async () => (await labels(shape))[3] === 'screws')
      await db.query(`UPDATE ${table} SET label = 'rivets' WHERE id = 2`)
      await until('the update', async () => (await labels(shape))[2] === 'rivets')
      await db.query(`DELETE FROM ${table} WHERE id = 1`)
      await until('the delete', async () => !(1 in (await labels(shape))))

      const rows = (await shape.rows).toSorted((a, b) => a.id - b.id)
      assert.deepEqual(rows, [
        { id: 2, label: 'rivets', note: 'left' },
        { id: 3, label: 'screws', note: null },
      ])
    })

    it('takes a transaction as a whole', async (t) => {
      const table = `${prefix}_transaction`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
      const shape = follow(t, base(), { table })
      const seen = []
      shape.subscribe(({ rows }) => seen.push(rows.length))
      await shape.rows
      await db.query(`INSERT INTO ${table} SELECT n, 'x' FROM generate_series(1, 500) n`)
      await until('all rows of the transaction', async () => (await shape.rows).length === 500)
      assert.deepEqual(seen.filter((count) => count !== 0 && count !== 500), [])
    })

    it('moves a row whose primary key changes', async (t) => {
      const table = `${prefix}_key`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'bolts')`)
      const shape = follow(t, base(), { table })
      const messages = collect(shape.stream)
      await shape.rows
      await db.query(`UPDATE ${table} SET id = 7 WHERE id = 1`)
      await until('the row under its new key', async () => (await labels(shape))[7] === 'bolts')
      assert.deepEqual(await labels(shape), { 7: 'bolts' })
      const [removed, added] = messages.filter(({ headers }) => headers.operation && headers.lsn)
      assert.equal(removed.headers.operation, 'delete')
      assert.equal(removed.headers.key_change_to, added.key)
      assert.equal(added.headers.operation, 'insert')
      assert.equal(added.headers.key_change_from, removed.key)
    })

    it('starts over after TRUNCATE', async (t) => {
      const table = `${prefix}_truncate`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
      const shape = follow(t, base(), { table })
      assert.deepEqual(await labels(shape), { 1: 'bolts', 2: 'nuts' })
      const { handle } = shape
      await db.query(`TRUNCATE ${table}`)
      await db.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
      await until('only the new row', async () => JSON.stringify(await labels(shape)) === '{"3":"screws"}')
      assert.notEqual(shape.handle, handle)
      await db.query(`INSERT INTO ${table} VALUES (4, 'rivets')`)
      await until('live again', async () => (await labels(shape))[4] === 'rivets')
    })

    it('filters by where with params, projects columns, and has old values under replica=full', async (t) => {
      const table = `${prefix}_filtered`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, site text, label text, weight int4)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'north', 'bolts', 3), (2, 'south', 'nuts', 5), (3, 'north', 'pins', 9)`)
      const shape = follow(t, base(), {
        table,
        where: 'site = $1 AND weight < $2',
        params: ['north', '8'],
        columns: ['id', 'label', 'weight'],
        replica: 'full',
      })
      const messages = collect(shape.stream)
      assert.deepEqual(await shape.rows, [{ id: 1, label: 'bolts', weight: 3 }])

      await db.query(`UPDATE ${table} SET weight = 4 WHERE id = 1`)
      await until('the update', async () => (await shape.rows)[0]?.weight === 4)
      const update = messages.find(({ headers }) => headers.operation === 'update')
      assert.deepEqual(update.value, { id: 1, label: 'bolts', weight: 4 })
      assert.deepEqual(update.old_value, { weight: 3 })

      await db.query(`UPDATE ${table} SET weight = 7 WHERE id = 3`)
      await until('a row that moves in', async () => (await labels(shape))[3] === 'pins')
      await db.query(`UPDATE ${table} SET site = 'south' WHERE id = 1`)
      await until('a row that moves out', async () => !(1 in (await labels(shape))))
      await db.query(`INSERT INTO ${table} VALUES (4, 'south', 'rivets', 1), (5, 'north', 'clips', 2)`)
      await until('the one insert that matches', async () => (await labels(shape))[5] === 'clips')
      assert.deepEqual(await labels(shape), { 3: 'pins', 5: 'clips' })
    })

    it('follows by server-sent events', async (t) => {
      const table = `${prefix}_sse`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
      const live = liveRequests()
      const shape = follow(t, base(), { table }, { liveSse: true, fetchClient: live.fetch })
      const seen = []
      shape.subscribe(({ rows }) => seen.push(rows.length))
      assert.deepEqual(await labels(shape), { 1: 'bolts', 2: 'nuts' })
      // A stream that begins with something pending ends with it, and the client gives up on streams after three.
      await until('the stream', () => live.contentTypes.length === 1)

      await db.query(`INSERT INTO ${table} VALUES (3, 'ünïcode\n"data: "')`)
      await until('the insert', async () => (await labels(shape))[3] === 'ünïcode\n"data: "')
      await db.query(`UPDATE ${table} SET label = 'rivets' WHERE id = 2`)
      await until('the update', async () => (await labels(shape))[2] === 'rivets')
      await db.query(`DELETE FROM ${table} WHERE id = 1`)
      await until('the delete', async () => !(1 in (await labels(shape))))
      await db.query(`INSERT INTO ${table} SELECT n, 'x' FROM generate_series(101, 600) n`)
      await until('a large transaction', async () => (await shape.rows).length === 502)
      assert.deepEqual(seen.filter((count) => count > 3), [502])
      // One connection brought it all.
      assert.deepEqual(live.contentTypes, ['text/event-stream'])
    })

    it('starts over after TRUNCATE while it follows by server-sent events', async (t) => {
      const table = `${prefix}_sse_truncate`
      await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
      await db.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
      const live = liveRequests()
      const shape = follow(t, base(), { table }, { liveSse: true, fetchClient: live.fetch })
      assert.deepEqual(await labels(shape), { 1: 'bolts', 2: 'nuts' })
      // The rotation is to meet an open stream.
      await until('the stream', () => live.contentTypes.length === 1)
      const { handle } = shape
      await db.query(`TRUNCATE ${table}`)
      await db.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
      await until('only the new row', async () => JSON.stringify(await labels(shape)) === '{"3":"screws"}')
      assert.notEqual(shape.handle, handle)
      await db.query(`INSERT INTO ${table} VALUES (4, 'rivets')`)
      await until('live again', async () => (await labels(shape))[4] === 'rivets')
      assert.deepEqual([...new Set(live.contentTypes)], ['text/event-stream'])
    })

    it('is refused without the secret', async () => {
      await db.query(`CREATE TABLE ${prefix}_refused (id int4 PRIMARY KEY)`)
      const params = { table: `${prefix}_refused`, offset: '-1' }
      const refused = await read(shapeUrl(base(), params))
      assert.equal(refused.status, 401)
      assert.deepEqual(refused.json(), { message: 'Unauthorized - Invalid API secret' })
      assert.equal((await read(shapeUrl(base(), { ...params, secret: 'wrong' }))).status, 401)
      assert.equal((await read(shapeUrl(base(), { ...params, secret: SECRET }))).status, 200)
    })
  })
}

/** A shape that is followed until the test ends. */
function follow(t, base, params, options = {}) {
  const ended = new AbortController()
  t.after(() => ended.abort())
  const stream = new ShapeStream({
    url: `${base}/v1/shape`,
    params: { ...params, secret: SECRET },
    signal: ended.signal,
    onError: (error) => {
      throw error
    },
    ...options,
  })
  return new Shape(stream)
}

/** A `fetch` that notes what the successful live requests are answered with. */
function liveRequests() {
  const contentTypes = []
  const noting = async (url, init) => {
    const response = await fetch(url, init)
    if (response.ok && new URL(url).searchParams.get('live') === 'true') {
      contentTypes.push(response.headers.get('content-type'))
    }
    return response
  }
  return { fetch: noting, contentTypes }
}

/** Every message from here on. */
function collect(stream) {
  const messages = []
  stream.subscribe((batch) => {
    messages.push(...batch)
  })
  return messages
}

async function labels(shape) {
  const rows = (await shape.rows).toSorted((a, b) => a.id - b.id)
  return Object.fromEntries(rows.map(({ id, label }) => [id, label]))
}
