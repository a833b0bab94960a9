// `@electric-sql/experimental`: several shapes that move together, by the LSN of the transactions. It pins a client of
// its own, hence the folder of its own.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { MultiShapeStream, TransactionalMultiShapeStream, matchBy, matchStream } from '@electric-sql/experimental'
import { ShapeStream } from '@electric-sql/client'
import { until } from '../../support.mjs'
import { eachWay } from '../stack.mjs'

const TRANSACTIONS = 20

eachWay('@electric-sql/experimental', (stack) => {
  it('streams two shapes as one', async (t) => {
    const { orders, lines } = await tables(stack, 'union')
    const stream = new MultiShapeStream({
      shapes: { orders: stack.shape(t, { table: orders }), lines: stack.shape(t, { table: lines }) },
    })
    const settled = follow(stream)
    const seen = []
    stream.subscribe((messages) => {
      seen.push(...messages.filter(({ headers }) => headers.operation))
    })
    await until('both are up to date', () => stream.isUpToDate)
    assert.deepEqual(brief(seen).toSorted(), ['lines insert 1', 'orders insert 1'])
    assert.equal(stream.isLoading(), false)
    assert.equal(stream.isConnected(), true)

    await stack.query(`UPDATE ${orders} SET total = 5 WHERE id = 1`)
    await stack.query(`INSERT INTO ${lines} VALUES (2, 1, 5)`)
    await until('both changes', () => seen.length === 4)
    assert.deepEqual(brief(seen.slice(2)).toSorted(), ['lines insert 2', 'orders update 1'])
    await settled()
  })

  it('229: publishes a transaction over two shapes as a whole, in its order', async (t) => {
    const { orders, lines } = await tables(stack, 'transactions')
    const stream = new TransactionalMultiShapeStream({
      shapes: { orders: stack.shape(t, { table: orders }), lines: stack.shape(t, { table: lines }) },
    })
    const settled = follow(stream)
    const batches = []
    stream.subscribe((messages) => {
      batches.push(messages.filter(({ headers }) => headers.lsn))
    })
    await until('both are up to date', () => stream.isUpToDate)

    for (let n = 2; n < 2 + TRANSACTIONS; n++) {
      await stack.transact(
        [`INSERT INTO ${lines} VALUES ($1, $1, 10)`, [n]],
        [`INSERT INTO ${orders} VALUES ($1, 0)`, [n]],
        [`UPDATE ${orders} SET total = 10 WHERE id = $1`, [n]],
        [`INSERT INTO ${lines} VALUES ($1, $2, 0)`, [1000 + n, n]],
      )
    }
    await until('all transactions', () => batches.flat().length === 4 * TRANSACTIONS)

    for (const batch of batches) {
      const lsns = [...new Set(batch.map(({ headers }) => headers.lsn))]
      assert.deepEqual(lsns, lsns.toSorted((a, b) => Number(BigInt(a) - BigInt(b))))
      for (const lsn of lsns) {
        const transaction = batch.filter(({ headers }) => headers.lsn === lsn)
        const n = Number(transaction[0].value.id)
        assert.deepEqual(brief(transaction), [
          `lines insert ${n}`,
          `orders insert ${n}`,
          `orders update ${n}`,
          `lines insert ${1000 + n}`,
        ])
      }
    }
    await settled()
  })

  it('learns of newer transactions in a shape that they leave alone', async (t) => {
    const { orders, lines } = await tables(stack, 'idle')
    const stream = new TransactionalMultiShapeStream({
      shapes: { orders: stack.shape(t, { table: orders }), lines: stack.shape(t, { table: lines }) },
    })
    const settled = follow(stream)
    const seen = []
    stream.subscribe((messages) => {
      seen.push(...messages.filter(({ headers }) => headers.lsn))
    })
    await until('both are up to date', () => stream.isUpToDate)
    for (let n = 1; n <= 3; n++) {
      await stack.query(`UPDATE ${orders} SET total = ${n} WHERE id = 1`)
      // The stream asks the idle shape again after 100 ms; a live request would hold for 20 s.
      await until(`update ${n}`, () => seen.length === n, 5_000)
    }
    await settled()
  })

  it('recovers one shape that is truncated, and both go on', async (t) => {
    const { orders, lines } = await tables(stack, 'truncate')
    const stream = new MultiShapeStream({
      shapes: { orders: stack.shape(t, { table: orders }), lines: stack.shape(t, { table: lines }) },
    })
    const settled = follow(stream)
    const seen = []
    stream.subscribe((messages) => {
      seen.push(...messages)
    })
    await until('both are up to date', () => stream.isUpToDate)
    seen.length = 0
    await stack.query(`TRUNCATE ${lines}`)
    await until('the refetch', () => seen.some(({ headers }) => headers.control === 'must-refetch'))
    assert.equal(seen.find(({ headers }) => headers.control === 'must-refetch').shape, 'lines')
    await stack.transact([`INSERT INTO ${lines} VALUES (7, 1, 3)`], [`UPDATE ${orders} SET total = 3 WHERE id = 1`])
    const has = (text) => brief(seen.filter(({ headers }) => headers.operation)).includes(text)
    await until('both changes', () => has('lines insert 7') && has('orders update 1'))
    await settled()
  })

  it('waits for one row of a stream', async (t) => {
    const { orders } = await tables(stack, 'match')
    const stream = new ShapeStream(stack.shape(t, { table: orders }))
    const match = matchStream(stream, ['update'], matchBy('total', 42), 10_000)
    await until('up to date', () => stream.isUpToDate)
    await stack.query(`UPDATE ${orders} SET total = 41 WHERE id = 1`)
    await stack.query(`UPDATE ${orders} SET total = 42 WHERE id = 1`)
    assert.deepEqual((await match).value, { id: 1, total: 42 })
  })
})

/** An order with one line; the names of both tables. */
async function tables(stack, name) {
  const [orders, lines] = [stack.table(`${name}_orders`), stack.table(`${name}_lines`)]
  await stack.query(`CREATE TABLE ${orders} (id int4 PRIMARY KEY, total int4)`)
  await stack.query(`CREATE TABLE ${lines} (id int4 PRIMARY KEY, order_id int4, amount int4)`)
  await stack.query(`INSERT INTO ${orders} VALUES (1, 0)`)
  await stack.query(`INSERT INTO ${lines} VALUES (1, 1, 0)`)
  return { orders, lines }
}

/**
 * Follows `stream` from its start; the result waits until each of its shapes has been told of every change that any of them
 * has shown. Until then the package may refresh a shape, and its promise of a refresh rejects, with nobody to handle that,
 * when a test ends the shape meanwhile.
 */
function follow({ shapes }) {
  const told = Object.values(shapes).map((shape) => {
    const lsns = { changed: -1n, seen: -1n }
    shape.subscribe((messages) => {
      for (const { headers } of messages) {
        lsns.changed = later(lsns.changed, headers.lsn)
        lsns.seen = later(lsns.seen, headers.global_last_seen_lsn)
      }
    })
    return lsns
  })
  return () =>
    until('no shape is behind another', () => {
      const newest = told.reduce((lsn, { changed }) => later(lsn, changed), -1n)
      return told.every(({ seen }) => seen >= newest)
    })
}

function later(lsn, other = -1) {
  return BigInt(other) > lsn ? BigInt(other) : lsn
}

function brief(messages) {
  return messages.map(({ shape, headers, value }) => `${shape} ${headers.operation} ${value.id}`)
}
