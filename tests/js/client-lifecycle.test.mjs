// Item 226: what an app asks of the unmodified `@electric-sql/client` over its life: it resumes, skips what is there,
// survives the server's end, mends its own errors and stops. Electric's own suite of the client is in no registry;
// client.test.mjs and client-subsets.test.mjs have the rest.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { FetchError, Shape, ShapeStream } from '@electric-sql/client'
import { Servers, until } from './support.mjs'

describe('226: the npm client over its life', () => {
  const servers = new Servers()
  let db, origin

  before(async () => {
    db = await servers.postgres()
    origin = await servers.origin({ databaseUrl: db.url })
  })

  after(() => servers.end())

  it('resumes from the offset and the handle that it saved', async (t) => {
    await table('resumed')
    const first = stream(t, { table: 'resumed' })
    await upToDate(first)
    const saved = { handle: first.stream.shapeHandle, offset: first.stream.lastOffset }
    first.abort()
    await db.query(`INSERT INTO resumed VALUES (4, 'meanwhile'); UPDATE resumed SET label = 'b' WHERE id = 1`)
    const second = stream(t, { table: 'resumed' }, saved)
    await until('what came meanwhile', () => second.changes.length === 2)
    assert.deepEqual(second.changes.map(({ value }) => value.id), [4, 1])
    assert.equal(second.stream.shapeHandle, saved.handle)
  })

  it('has only what comes, in a log of changes and from now on', async (t) => {
    await table('later')
    const only = stream(t, { table: 'later' }, { log: 'changes_only' })
    const now = stream(t, { table: 'later' }, { offset: 'now' })
    await Promise.all([upToDate(only), upToDate(now)])
    await db.query(`DELETE FROM later WHERE id = 2; INSERT INTO later VALUES (4, 'new')`)
    for (const { changes } of [only, now]) {
      await until('both changes', () => changes.length === 2)
      assert.deepEqual(changes.map(({ headers }) => headers.operation), ['delete', 'insert'])
    }
  })

  it('goes on after kill -9, without starting over', async (t) => {
    await table('survivor')
    const { stream: followed, changes, controls } = stream(t, { table: 'survivor' })
    const shape = new Shape(followed)
    await shape.rows
    const handle = followed.shapeHandle
    // A crash starts over a shape whose first rows are not durable yet; an end in order waits until they are.
    await origin.stopAndStart()
    await origin.killAndStart()
    await db.query(`INSERT INTO survivor VALUES (4, 'after')`)
    await until('the row', async () => (await shape.rows).length === 4)
    assert.equal(followed.shapeHandle, handle)
    assert.deepEqual(controls.filter((control) => control === 'must-refetch'), [])
    assert.deepEqual(changes.map(({ value }) => value.id), [1, 2, 3, 4], 'nothing twice')
  })

  it('hears of its own errors, and mends them', async (t) => {
    await table('mended')
    const errors = []
    const { stream: followed } = stream(t, { table: 'no_such_table' }, {
      onError: (error) => {
        errors.push(error)
        return { params: { table: 'mended' } }
      },
    })
    assert.equal((await new Shape(followed).rows).length, 3)
    assert.equal(errors.length, 1)
    assert.ok(errors[0] instanceof FetchError)
    assert.equal(errors[0].status, 400)
    assert.match(JSON.stringify(errors[0].json), /no_such_table/)
  })

  it('quotes names and binds parameters', async (t) => {
    await db.query('CREATE TABLE "Odd Table" (id int4 PRIMARY KEY, "Weird,Name" text, n int8)')
    await db.query(`INSERT INTO "Odd Table" VALUES (1, 'it''s', 9007199254740993), (2, 'b', 2)`)
    const { stream: followed } = stream(t, {
      table: '"Odd Table"',
      columns: ['id', 'Weird,Name', 'n'],
      where: '"Weird,Name" = $1 AND n > $2',
      params: ["it's", '5'],
    })
    assert.deepEqual(await new Shape(followed).rows, [{ id: 1, 'Weird,Name': "it's", n: 9007199254740993n }])
  })

  it('tells every subscriber, and nobody once it is aborted', async (t) => {
    await table('subscribed')
    const { stream: followed, abort } = stream(t, { table: 'subscribed' })
    const shape = new Shape(followed)
    const [one, other] = [[], []]
    const leave = shape.subscribe(({ rows }) => one.push(rows.length))
    shape.subscribe(({ rows }) => other.push(rows.length))
    await shape.rows
    assert.ok(followed.isUpToDate && followed.isConnected() && followed.lastSyncedAt() > 0)
    await db.query(`INSERT INTO subscribed VALUES (4, 'new')`)
    await until('both are told', () => one.at(-1) === 4 && other.at(-1) === 4)
    leave()
    await db.query(`INSERT INTO subscribed VALUES (5, 'new')`)
    await until('the other is told', () => other.at(-1) === 5)
    assert.equal(one.at(-1), 4)
    abort()
    await until('it is gone', () => !followed.isConnected())
    await until('no request waits', async () => (await origin.parkedClients()) === 0)
  })

  async function table(name) {
    await db.query(`CREATE TABLE ${name} (id int4 PRIMARY KEY, label text)`)
    await db.query(`INSERT INTO ${name} VALUES (1, 'a'), (2, 'b'), (3, 'c')`)
  }

  /** A stream that is followed until the test ends, with its changes and control messages so far. */
  function stream(t, params, options = {}) {
    const aborter = new AbortController()
    const abort = () => aborter.abort()
    t.after(abort)
    const followed = new ShapeStream({ url: `${origin.url}/v1/shape`, params, signal: aborter.signal, ...options })
    const [changes, controls] = [[], []]
    followed.subscribe((messages) => {
      for (const message of messages) {
        if ('control' in message.headers) controls.push(message.headers.control)
        else changes.push(message)
      }
    })
    return { stream: followed, changes, controls, abort }
  }

  const upToDate = ({ controls }) => until('it is up to date', () => controls.includes('up-to-date'))
})
