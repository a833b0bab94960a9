// `@electric-sql/pglite-sync`: tables of the source become tables of a PGlite.

import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { PGlite } from '@electric-sql/pglite'
import { electricSync } from '@electric-sql/pglite-sync'
import { until } from '../support.mjs'
import { eachWay } from './stack.mjs'

const ROWS = 1_000

const COLUMNS = `id int4 PRIMARY KEY, label text NOT NULL, weight numeric, tags text[], extra jsonb, checked timestamptz,
  raw bytea`

/** The database in memory that all tests copy into. */
let copy

before(async () => {
  copy = await PGlite.create({ extensions: { electric: electricSync() } })
  await copy.exec(`SET timezone TO 'UTC'`)
})

after(() => copy.close())

eachWay('@electric-sql/pglite-sync', (stack) => {
  for (const initialInsertMethod of ['insert', 'json', 'csv']) {
    it(`copies ${ROWS} rows by ${initialInsertMethod}, then follows`, async (t) => {
      const table = stack.table(`by_${initialInsertMethod}`)
      // The package writes neither arrays nor objects into its CSV.
      const columns = initialInsertMethod === 'csv' ? 'id int4 PRIMARY KEY, label text NOT NULL' : COLUMNS
      await stack.query(`CREATE TABLE ${table} (${columns})`)
      const others =
        initialInsertMethod === 'csv' ? '' : `, n / 8.0, ARRAY['a', 'n' || n], jsonb_build_object('n', n), to_timestamp(n), NULL`
      await stack.query(
        `INSERT INTO ${table} SELECT n, CASE n WHEN 7 THEN 'a "quoted", one' ELSE 'crate ' || n END ${others}
        FROM generate_series(1, $1) n`,
        [ROWS],
      )
      await copy.exec(`CREATE TABLE ${table} (${columns})`)
      const sync = await copy.electric.syncShapeToTable({
        shape: stack.shape(t, { table }),
        table,
        primaryKey: ['id'],
        shapeKey: null,
        initialInsertMethod,
        onError: fail,
      })
      t.after(() => sync.unsubscribe())
      await same(stack, table, 'the rows')

      await stack.query(`INSERT INTO ${table} (id, label) VALUES (0, 'first')`)
      await stack.query(`UPDATE ${table} SET label = 'it''s ' || label WHERE id IN (3, 5)`)
      await stack.query(`DELETE FROM ${table} WHERE id > 500`)
      await same(stack, table, 'the changes')
    })
  }

  it('updates columns of all kinds', async (t) => {
    const table = stack.table('kinds')
    await stack.query(`CREATE TABLE ${table} (${COLUMNS})`)
    await stack.query(`INSERT INTO ${table} VALUES (1, 'bolts', 1.50, '{a,b}', '{"a": 1}', '2024-02-29 12:00+00', NULL)`)
    await copy.exec(`CREATE TABLE ${table} (${COLUMNS})`)
    const sync = await copy.electric.syncShapeToTable({
      shape: stack.shape(t, { table }),
      table,
      primaryKey: ['id'],
      shapeKey: null,
      onError: fail,
    })
    t.after(() => sync.unsubscribe())
    await same(stack, table, 'the row')
    await stack.query(
      `UPDATE ${table} SET weight = 1e20, tags = '{"x y",NULL}', extra = '[1, {"b": null}]',
        checked = '2000-01-01 00:00:00.123456+00'`,
    )
    await same(stack, table, 'the update')
    await stack.query(`UPDATE ${table} SET weight = NULL, tags = NULL, extra = NULL, checked = NULL`)
    await same(stack, table, 'the nulls')
  })

  it('starts over after TRUNCATE', async (t) => {
    const table = stack.table('truncate')
    await stack.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
    await stack.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
    await copy.exec(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
    const sync = await copy.electric.syncShapeToTable({
      shape: stack.shape(t, { table }),
      table,
      primaryKey: ['id'],
      shapeKey: null,
      onError: fail,
    })
    t.after(() => sync.unsubscribe())
    await same(stack, table, 'the rows')
    await stack.query(`TRUNCATE ${table}`)
    await stack.query(`INSERT INTO ${table} VALUES (1, 'screws')`)
    await same(stack, table, 'only the new row')
    await stack.query(`INSERT INTO ${table} VALUES (2, 'rivets')`)
    await same(stack, table, 'live again')
  })

  it('keeps two tables consistent in every commit', async (t) => {
    const [accounts, entries] = [stack.table('accounts'), stack.table('entries')]
    const schema = `CREATE TABLE ${accounts} (id int4 PRIMARY KEY, balance int4);
      CREATE TABLE ${entries} (id int4 PRIMARY KEY, account int4, amount int4);`
    await stack.query(schema)
    await stack.query(`INSERT INTO ${accounts} VALUES (1, 0)`)
    // After every transaction of the copy, a balance is the sum of its entries.
    const balanced = stack.table('balanced')
    await copy.exec(
      `${schema}
      CREATE FUNCTION ${balanced}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM ${accounts} a
          WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM ${entries} WHERE account = a.id))
        THEN RAISE EXCEPTION 'out of balance'; END IF;
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER a AFTER INSERT OR UPDATE ON ${accounts} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION ${balanced}();
      CREATE CONSTRAINT TRIGGER e AFTER INSERT OR UPDATE ON ${entries} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION ${balanced}();`,
    )
    let initial = 0
    const sync = await copy.electric.syncShapesToTables({
      shapes: {
        accounts: { shape: stack.shape(t, { table: accounts }), table: accounts, primaryKey: ['id'] },
        entries: { shape: stack.shape(t, { table: entries }), table: entries, primaryKey: ['id'] },
      },
      key: null,
      onInitialSync: () => initial++,
      onError: fail,
    })
    t.after(() => sync.unsubscribe())
    await same(stack, accounts, 'the account')
    for (let n = 1; n <= 20; n++) {
      await stack.transact(
        [`INSERT INTO ${entries} VALUES ($1, 1, $1)`, [n]],
        [`UPDATE ${accounts} SET balance = balance + $1 WHERE id = 1`, [n]],
      )
    }
    await same(stack, accounts, 'the balance')
    await same(stack, entries, 'the entries')
    assert.equal(initial, 1)
  })

  it('resumes where it was', async (t) => {
    const table = stack.table('resume')
    await stack.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
    await stack.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
    await copy.exec(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
    const follow = () =>
      copy.electric.syncShapeToTable({
        shape: stack.shape(t, { table }),
        table,
        primaryKey: ['id'],
        shapeKey: 'resume',
        onError: fail,
      })
    const first = await follow()
    await same(stack, table, 'the rows')
    await stack.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
    await same(stack, table, 'the insert')
    first.unsubscribe()

    await stack.query(`UPDATE ${table} SET label = 'rivets' WHERE id = 1`)
    await stack.query(`DELETE FROM ${table} WHERE id = 2`)
    const second = await follow()
    t.after(() => second.unsubscribe())
    // A second copy of the initial rows would break the primary key.
    await same(stack, table, 'what happened meanwhile')
  })
})

/** Waits until the copy has what the source has, as Postgres itself writes the rows. */
async function same(stack, table, what) {
  const sql = `SELECT r::text AS row FROM ${table} r ORDER BY id`
  const source = (await stack.query(`SET timezone TO 'UTC'; ${sql}`))[1].rows.map(({ row }) => row)
  const copied = async () => (await copy.query(sql)).rows.map(({ row }) => row)
  await until(what, async () => isDeepStrictEqual(await copied(), source)).catch(async () => {
    assert.deepEqual(await copied(), source, what)
  })
}

function fail(error) {
  throw error
}
