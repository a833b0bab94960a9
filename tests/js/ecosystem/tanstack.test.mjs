// `@tanstack/electric-db-collection`, eager: all rows of a shape in a collection, writes acknowledged by their txid.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { createCollection, createLiveQueryCollection, eq, gt, sum } from '@tanstack/db'
import { electricCollectionOptions, isChangeMessage } from '@tanstack/electric-db-collection'
import { until } from '../support.mjs'
import { eachWay, labels } from './stack.mjs'

eachWay('@tanstack/electric-db-collection, eager,', (stack) => {
  it('has the rows, and follows what others write', async (t) => {
    const table = await bolts(stack, 'follow')
    const collection = collect(t, table)
    await collection.preload()
    assert.deepEqual(labels(collection.toArray), { 1: 'bolts', 2: 'nuts' })
    await stack.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
    await until('the insert', () => collection.get(3)?.label === 'screws')
    await stack.query(`UPDATE ${table} SET label = 'rivets', weight = 9 WHERE id = 2`)
    await until('the update', () => collection.get(2)?.label === 'rivets')
    await stack.query(`UPDATE ${table} SET id = 7 WHERE id = 2`)
    await until('the row under its new key', () => collection.get(7)?.weight === 9)
    await stack.query(`DELETE FROM ${table} WHERE id = 1`)
    await until('the delete', () => !collection.has(1))
    assert.deepEqual(labels(collection.toArray), { 3: 'screws', 7: 'rivets' })
  })

  it('227: awaits a txid that is written elsewhere', async (t) => {
    const table = await bolts(stack, 'txid')
    const collection = collect(t, table)
    await collection.preload()
    for (let n = 10; n < 15; n++) {
      const txid = await stack.transact([`INSERT INTO ${table} VALUES ($1, 'new')`, [n]])
      assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
      assert(collection.has(n))
    }
  })

  it('227: awaits a txid that was there before the collection', async (t) => {
    const table = await bolts(stack, 'txid_before')
    const txid = await stack.transact([`INSERT INTO ${table} VALUES (3, 'screws')`])
    const collection = collect(t, table)
    await collection.preload()
    assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
  })

  it('keeps optimistic writes until the sync has them', async (t) => {
    const table = await bolts(stack, 'optimistic')
    const collection = collect(t, table)
    await collection.preload()

    const inserted = collection.insert({ id: 3, label: 'screws', weight: 1 })
    assert(collection.has(3))
    await inserted.isPersisted.promise
    assert.equal(await labelInSource(stack, table, 3), 'screws')
    assert.equal(collection.get(3).label, 'screws')

    await collection.update(3, (row) => {
      row.label = 'clips'
    }).isPersisted.promise
    assert.equal(await labelInSource(stack, table, 3), 'clips')
    assert.equal(collection.get(3).label, 'clips')

    await collection.delete([1, 3]).isPersisted.promise
    assert.deepEqual(labels(collection.toArray), { 2: 'nuts' })
  })

  it('rolls back a write that the source refuses', async (t) => {
    const table = await bolts(stack, 'refused')
    const collection = collect(t, table)
    await collection.preload()
    const refused = collection.insert({ id: 9, label: null, weight: 1 })
    assert(collection.has(9))
    await assert.rejects(refused.isPersisted.promise, /null value in column "label"/)
    assert(!collection.has(9))
  })

  it('awaits a message by a match of its own', async (t) => {
    const table = await bolts(stack, 'match')
    const collection = collect(t, table)
    await collection.preload()
    const matched = collection.utils.awaitMatch(
      (message) => isChangeMessage(message) && message.headers.operation === 'update' && message.value.id === 2,
      10_000,
    )
    await stack.query(`UPDATE ${table} SET label = 'rivets' WHERE id = 2`)
    assert.equal(await matched, true)
  })

  it('starts over after TRUNCATE, and awaits txids of then', async (t) => {
    const table = await bolts(stack, 'truncate')
    const collection = collect(t, table)
    await collection.preload()
    await stack.query(`TRUNCATE ${table}`)
    const txid = await stack.transact([`INSERT INTO ${table} VALUES (3, 'screws')`])
    assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
    assert.deepEqual(labels(collection.toArray), { 3: 'screws' })
    await collection.insert({ id: 4, label: 'clips', weight: 2 }).isPersisted.promise
    assert.deepEqual(labels(collection.toArray), { 3: 'screws', 4: 'clips' })
  })

  it('joins two collections live', async (t) => {
    const [parts, sites] = [await bolts(stack, 'join_parts'), stack.table('join_sites')]
    await stack.query(`CREATE TABLE ${sites} (id int4 PRIMARY KEY, part int4, stock int4)`)
    await stack.query(`INSERT INTO ${sites} VALUES (1, 1, 5), (2, 1, 7), (3, 2, 0)`)
    const [part, site] = [collect(t, parts), collect(t, sites)]
    const stock = createLiveQueryCollection({
      query: (q) =>
        q
          .from({ site })
          .innerJoin({ part }, ({ site, part }) => eq(site.part, part.id))
          .where(({ site }) => gt(site.stock, 0))
          .groupBy(({ part }) => part.label)
          .select(({ part, site }) => ({ label: part.label, stock: sum(site.stock) })),
    })
    await stock.preload()
    const shown = () => Object.fromEntries(stock.toArray.map(({ label, stock }) => [label, stock]))
    assert.deepEqual(shown(), { bolts: 12 })
    await stack.transact([`UPDATE ${sites} SET stock = 2 WHERE id = 3`], [`UPDATE ${parts} SET label = 'pins' WHERE id = 1`])
    await until('the change in both', () => isDeepStrictEqual(shown(), { pins: 12, nuts: 2 }))
  })

  /** A collection of the table whose writes go to the source and await their txid. */
  function collect(t, table) {
    return createCollection(
      electricCollectionOptions({
        id: table,
        shapeOptions: stack.shape(t, { table }),
        getKey: ({ id }) => id,
        onInsert: ({ transaction }) => write(transaction, insertOf),
        onUpdate: ({ transaction }) => write(transaction, updateOf),
        onDelete: ({ transaction }) => write(transaction, deleteOf),
      }),
    )

    async function write(transaction, statementOf) {
      return { txid: await stack.transact(...transaction.mutations.map(statementOf)), timeout: 10_000 }
    }

    function insertOf({ modified: { id, label, weight } }) {
      return [`INSERT INTO ${table} VALUES ($1, $2, $3)`, [id, label, weight]]
    }

    function deleteOf({ original }) {
      return [`DELETE FROM ${table} WHERE id = $1`, [original.id]]
    }

    function updateOf({ original, modified: { label, weight } }) {
      return [`UPDATE ${table} SET label = $2, weight = $3 WHERE id = $1`, [original.id, label, weight]]
    }
  }
})

/** Two rows to begin with; the name of their table. */
async function bolts(stack, name) {
  const table = stack.table(name)
  await stack.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text NOT NULL, weight int4)`)
  await stack.query(`INSERT INTO ${table} VALUES (1, 'bolts', 3), (2, 'nuts', 4)`)
  return table
}

async function labelInSource(stack, table, id) {
  const { rows } = await stack.query(`SELECT label FROM ${table} WHERE id = $1`, [id])
  return rows[0]?.label
}
