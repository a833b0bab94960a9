// `@tanstack/electric-db-collection`, on demand and progressive: live queries load the part of a shape that they ask
// for, as subset snapshots, and the stream keeps it up to date.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import * as db from '@tanstack/db'
import { electricCollectionOptions } from '@tanstack/electric-db-collection'
import { until } from '../support.mjs'
import { eachWay } from './stack.mjs'

const ROWS = 400

const isNorth = ({ item }) => db.eq(item.site, 'north')

/** What live queries filter by, and the same in SQL. */
const CONDITIONS = {
  comparisons: [
    [({ label }) => db.like(label, 'crate 1_'), `label LIKE 'crate 1_'`],
    [({ label }) => db.ilike(label, 'CRATE 2%'), `label ILIKE 'CRATE 2%'`],
    [({ note }) => db.isNull(note), 'note IS NULL'],
    [({ note }) => db.not(db.isNull(note)), 'note IS NOT NULL'],
    [({ note }) => db.eq(note, ''), `note = ''`],
    [({ done }) => db.eq(done, true), 'done'],
    [({ done, id }) => db.and(db.gt(done, false), db.lt(id, 20)), 'done > false AND id < 20'],
    [({ weight }) => db.gte(weight, 98.5), 'weight >= 98.5'],
    [
      ({ id, site }) => db.or(db.and(db.eq(site, 'east'), db.lt(id, 9)), db.eq(id, 77)),
      `site = 'east' AND id < 9 OR id = 77`,
    ],
    [
      ({ id, site }) => db.and(db.not(db.eq(site, 'east')), db.gt(id, 390), db.lte(id, 398)),
      `site <> 'east' AND id > 390 AND id <= 398`,
    ],
  ],
  lists: [
    [({ id }) => db.inArray(id, [3, 5, 999, 7]), 'id IN (3, 5, 999, 7)'],
    [({ site }) => db.inArray(site, ['north', 'a "quoted", one\\']), `site IN ('north')`],
    [({ id }) => db.inArray(id, []), 'false'],
  ],
  functions: [
    [({ label }) => db.eq(db.upper(label), 'CRATE 33'), 'id = 33'],
    [({ site, id }) => db.and(db.eq(db.lower(site), 'east'), db.lt(id, 50)), `site = 'east' AND id < 50`],
    [({ label }) => db.lt(db.length(label), 8), 'length(label) < 8'],
    [({ site, label }) => db.eq(db.concat(site, label), 'eastcrate 5'), 'id = 5'],
    [
      ({ note, id }) => db.and(db.eq(db.coalesce(note, 'none'), 'none'), db.lt(id, 30)),
      'note IS NULL AND id < 30',
    ],
    // Not `add`: the package compiles it to `+(a, b)`, which is no SQL that Postgres takes either.
  ],
}

eachWay('@tanstack/electric-db-collection, on demand,', (stack) => {
  for (const subsetMethod of ['GET', 'POST']) {
    describe(`with subsets by ${subsetMethod}`, () => {
      const onDemand = (t, table) => collect(stack, t, table, { syncMode: 'on-demand' }, { subsetMethod })
      const items = (name) => crates(stack, `${name}_${subsetMethod.toLowerCase()}`)

      it('loads what a query asks for, and follows it', async (t) => {
        const table = await items('where')
        const collection = onDemand(t, table)
        const north = live(collection, (q) => q.where(isNorth))
        await north.preload()
        assert.deepEqual(ids(north), await selected(stack, table, `site = 'north'`))
        assert.equal(collection.size, ROWS / 4)

        await stack.query(`INSERT INTO ${table} (id, site) VALUES (1001, 'north'), (1002, 'south')`)
        await until('the insert', () => north.has(1001))
        await stack.query(`UPDATE ${table} SET weight = -1 WHERE id = 4`)
        await until('the update', () => north.get(4).weight === -1)
        await stack.query(`UPDATE ${table} SET site = 'south' WHERE id = 8`)
        await until('the row that moves out', () => !north.has(8))
        await stack.query(`DELETE FROM ${table} WHERE id = 12`)
        await until('the delete', () => !north.has(12))
        assert.deepEqual(ids(north), await selected(stack, table, `site = 'north'`))
      })

      for (const [kind, conditions] of Object.entries(CONDITIONS)) {
        it(`understands ${kind}`, async (t) => {
          const table = await items(kind)
          for (const [condition, sql] of conditions) {
            const collection = onDemand(t, table)
            const query = live(collection, (q) => q.where(({ item }) => condition(item)))
            await query.preload()
            assert.deepEqual(ids(query), await selected(stack, table, sql), sql)
            assert.equal(collection.size, query.size, `loaded more than ${sql}`)
            await collection.cleanup()
          }
        })
      }

      it('fills a window by order and limit, and fills it again from behind', async (t) => {
        const table = await items('window')
        const collection = onDemand(t, table)
        const heaviest = live(collection, (q) =>
          q
            .orderBy(({ item }) => item.weight, 'desc')
            .orderBy(({ item }) => item.id)
            .limit(5),
        )
        await heaviest.preload()
        const top = () => heaviest.toArray.map(({ id }) => id)
        const expected = async () => {
          const { rows } = await stack.query(`SELECT id FROM ${table} ORDER BY weight DESC, id LIMIT 5`)
          return rows.map(({ id }) => id)
        }
        const agrees = async () => isDeepStrictEqual(top(), await expected())
        assert.deepEqual(top(), await expected())
        assert(collection.size < 20, `a window of 5 loaded ${collection.size} rows`)

        await stack.query(`INSERT INTO ${table} (id, weight) VALUES (1001, 1e6)`)
        await until('a new first', agrees)
        await stack.query(`DELETE FROM ${table} WHERE weight > 99`)
        await until('others in the place of the deleted', agrees)
        await heaviest.utils.setWindow({ offset: 0, limit: 5 })
        assert.deepEqual(top(), await expected())
      })

      it('gives the pages of a query, ties included', async (t) => {
        const table = await items('pages')
        const collection = onDemand(t, table)
        const page = live(collection, (q) => q.orderBy(({ item }) => item.site).limit(10))
        await page.preload()
        const seen = new Set()
        for (let offset = 0; offset < ROWS; offset += 50) {
          await page.utils.setWindow({ offset, limit: 50 })
          await until(`the page at ${offset}`, () => page.size === 50)
          page.toArray.forEach(({ id }) => seen.add(id))
        }
        assert.equal(seen.size, ROWS)
      })

      it('keeps one row where queries overlap, and it is the newest', async (t) => {
        const table = await items('overlap')
        const collection = onDemand(t, table)
        const first = live(collection, (q) => q.where(({ item }) => db.lt(item.id, 50)))
        await first.preload()
        let stop = false
        const writer = (async () => {
          for (let n = 0; !stop; n++) await stack.query(`UPDATE ${table} SET weight = ${n} WHERE id BETWEEN 20 AND 90`)
        })()
        const others = [30, 40, 60, 80].map((from) =>
          live(collection, (q) => q.where(({ item }) => db.and(db.gte(item.id, from), db.lt(item.id, from + 30)))),
        )
        await Promise.all(others.map((query) => query.preload()))
        stop = true
        await writer
        await stack.query(`UPDATE ${table} SET weight = -5 WHERE id IN (45, 85)`)
        const { rows } = await stack.query(`SELECT id, weight FROM ${table} WHERE id < 110 ORDER BY id`)
        const source = rows.filter(({ id }) => id > 0)
        const loaded = () =>
          collection.toArray.map(({ id, weight }) => ({ id, weight })).toSorted((a, b) => a.id - b.id)
        await until('the last update', () => isDeepStrictEqual(loaded(), source)).catch(() =>
          assert.deepEqual(loaded(), source),
        )
      })

      it('awaits txids', async (t) => {
        const table = await items('txid')
        const collection = onDemand(t, table)
        const north = live(collection, (q) => q.where(isNorth))
        await north.preload()
        await collection.insert({ id: 2001, site: 'north', label: 'mine', weight: 1, done: false, note: null }).isPersisted
          .promise
        assert(north.has(2001))
        const txid = await stack.transact([`INSERT INTO ${table} (id, site) VALUES (2002, 'north')`])
        assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
        assert(north.has(2002))
      })

      it('loads again what its queries show after TRUNCATE', async (t) => {
        const table = await items('truncate')
        const collection = onDemand(t, table)
        const north = live(collection, (q) => q.where(isNorth))
        await north.preload()
        await stack.query(`TRUNCATE ${table}`)
        await stack.query(`INSERT INTO ${table} (id, site) VALUES (1, 'north'), (2, 'south')`)
        await until('only the new row', () => isDeepStrictEqual(ids(north), [1]))
        await stack.query(`INSERT INTO ${table} (id, site) VALUES (3, 'north')`)
        await until('live again', () => isDeepStrictEqual(ids(north), [1, 3]))
      })
    })
  }
})

eachWay('@tanstack/electric-db-collection, progressive,', (stack) => {
  it('answers a query before all rows are there, then has them all', async (t) => {
    const table = await crates(stack, 'progressive')
    // The whole shape stays away until the gate opens; subsets pass.
    let open
    const gate = new Promise((resolve) => (open = resolve))
    const gated = async (url, init) => {
      if (!new URL(url).search.includes('subset__')) await gate
      return fetch(url, init)
    }
    const collection = collect(stack, t, table, { syncMode: 'progressive' }, { fetchClient: gated })
    const north = live(collection, (q) => q.where(isNorth).orderBy(({ item }) => item.id).limit(10))
    north.startSyncImmediate()
    await until('the query, early', () => north.size === 10)
    assert.notEqual(collection.status, 'ready')
    assert(collection.size < ROWS)

    // The row changes between the two; the swap to the whole shape must not bring the old one back.
    await stack.query(`UPDATE ${table} SET label = 'changed' WHERE id = 4`)
    open()
    await until('the whole shape', () => collection.status === 'ready')
    assert.equal(collection.size, ROWS)
    await until('the change', () => collection.get(4).label === 'changed')
    const txid = await stack.transact([`UPDATE ${table} SET label = 'again' WHERE id = 4`])
    assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
    assert.equal(north.get(4).label, 'again')
  })

  it('follows and starts over as an eager one', async (t) => {
    const table = await crates(stack, 'progressive_truncate')
    const collection = collect(stack, t, table, { syncMode: 'progressive' })
    collection.startSyncImmediate()
    await until('the whole shape', () => collection.status === 'ready')
    assert.equal(collection.size, ROWS)
    await collection.delete([1, 2]).isPersisted.promise
    assert.equal(collection.size, ROWS - 2)
    await stack.query(`TRUNCATE ${table}`)
    const txid = await stack.transact([`INSERT INTO ${table} (id, label) VALUES (1, 'new')`])
    assert.equal(await collection.utils.awaitTxId(txid, 10_000), true)
    assert.deepEqual(collection.toArray.map(({ label }) => label), ['new'])
  })
})

/** A collection of the table whose inserts and deletes go to the source and await their txid. */
function collect(stack, t, table, options, shapeOptions = {}) {
  return db.createCollection(
    electricCollectionOptions({
      id: table,
      shapeOptions: { ...stack.shape(t, { table }), ...shapeOptions },
      getKey: ({ id }) => id,
      // Only with an index does an ordered query load no more than its window.
      autoIndex: 'eager',
      defaultIndexType: db.BTreeIndex,
      onInsert: async ({ transaction }) => {
        const { id, site, label, weight } = transaction.mutations[0].modified
        const sql = `INSERT INTO ${table} (id, site, label, weight) VALUES ($1, $2, $3, $4)`
        return { txid: await stack.transact([sql, [id, site, label, weight]]), timeout: 10_000 }
      },
      onDelete: async ({ transaction }) => {
        const deleted = transaction.mutations.map(({ original }) => original.id)
        return { txid: await stack.transact([`DELETE FROM ${table} WHERE id = ANY($1)`, [deleted]]), timeout: 10_000 }
      },
      ...options,
    }),
  )
}

/** A live query over one collection; `refine` adds to it. */
function live(collection, refine) {
  return db.createLiveQueryCollection({ query: (q) => refine(q.from({ item: collection })) })
}

/** 400 crates in four sites; the name of their table. */
async function crates(stack, name) {
  const table = stack.table(name)
  await stack.query(
    `CREATE TABLE ${table} (id int4 PRIMARY KEY, site text, label text, weight float8, note text,
      done bool NOT NULL DEFAULT false)`,
  )
  await stack.query(
    `INSERT INTO ${table} SELECT n, (ARRAY['north', 'east', 'south', 'west'])[n % 4 + 1], 'crate ' || n,
      (n * 7 % 400) / 4.0, CASE n % 5 WHEN 0 THEN '' WHEN 1 THEN 'fragile' END, n % 3 = 0
    FROM generate_series(1, $1) n`,
    [ROWS],
  )
  return table
}

function ids(collection) {
  return collection.toArray.map(({ id }) => id).toSorted((a, b) => a - b)
}

/** The ids of the rows that Postgres selects. */
async function selected(stack, table, where) {
  const { rows } = await stack.query(`SELECT id FROM ${table} WHERE ${where} ORDER BY id`)
  return rows.map(({ id }) => id)
}
