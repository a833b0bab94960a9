// `@electric-sql/react` in a document of jsdom: what the hook gives is what the component shows.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { JSDOM } from 'jsdom'
import { until } from '../support.mjs'
import { eachWay, labels } from './stack.mjs'

// React and the npm client look for a document when they are loaded. A page that is not painted counts as hidden, and
// the client does not fetch for one that is hidden.
const { window } = new JSDOM('<!doctype html>', { pretendToBeVisual: true })
Object.assign(globalThis, { window, document: window.document })
globalThis.navigator ??= window.navigator

const { createElement, Fragment } = await import('react')
const { createRoot } = await import('react-dom/client')
const { preloadShape, useShape } = await import('@electric-sql/react')

eachWay('@electric-sql/react', (stack) => {
  it('shows the rows that are there, and every change of them', async (t) => {
    const table = await bolts(stack, 'changes')
    const shape = stack.shape(t, { table })
    const shown = render(t, () => {
      const { data, isLoading } = useShape(shape)
      return isLoading ? 'loading' : JSON.stringify(labels(data))
    })
    await until('loading', () => shown() === 'loading')
    await until('the rows', () => shown() === '{"1":"bolts","2":"nuts"}')

    await stack.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
    await until('the insert', () => shown() === '{"1":"bolts","2":"nuts","3":"screws"}')
    await stack.query(`UPDATE ${table} SET label = 'rivets' WHERE id = 2`)
    await until('the update', () => shown() === '{"1":"bolts","2":"rivets","3":"screws"}')
    await stack.query(`DELETE FROM ${table} WHERE id = 1`)
    await until('the delete', () => shown() === '{"2":"rivets","3":"screws"}')
  })

  it('starts over after TRUNCATE', async (t) => {
    const table = await bolts(stack, 'truncate')
    const shape = stack.shape(t, { table })
    const shown = render(t, () => JSON.stringify(labels(useShape(shape).data)))
    await until('the rows', () => shown() === '{"1":"bolts","2":"nuts"}')
    await stack.query(`TRUNCATE ${table}`)
    await stack.query(`INSERT INTO ${table} VALUES (3, 'screws')`)
    await until('only the new row', () => shown() === '{"3":"screws"}')
    await stack.query(`INSERT INTO ${table} VALUES (4, 'clips')`)
    await until('live again', () => shown() === '{"3":"screws","4":"clips"}')
  })

  it('has preloaded rows on the first render, and one stream for two components', async (t) => {
    const table = await bolts(stack, 'preload')
    const shape = stack.shape(t, { table, where: 'id > 1' })
    const preloaded = await preloadShape(shape)
    const streams = []
    const Count = () => {
      const { count, stream, isLoading } = useShape({ ...shape, selector: selectCount })
      assert.equal(isLoading, false)
      streams.push(stream)
      return String(count)
    }
    const shown = render(t, () => createElement(Fragment, null, createElement(Count), ' and ', createElement(Count)))
    await until('the count, twice', () => shown() === '1 and 1')
    await stack.query(`INSERT INTO ${table} VALUES (0, 'pins'), (3, 'screws')`)
    await until('the row that matches, twice', () => shown() === '2 and 2')
    assert.deepEqual([...new Set(streams)], [preloaded.stream])
  })

  it('shows an error that the server gives', async (t) => {
    const table = stack.table('missing')
    const shape = { ...stack.shape(t, { table }), onError: () => {} }
    const shown = render(t, () => {
      const { isError, error } = useShape(shape)
      return isError ? `${error.status} ${error.json.errors.table}` : 'no error'
    })
    await until('the error', () => shown().startsWith(`400 Table "public"."${table}" does not exist.`))
  })
})

function selectCount({ data, stream, isLoading }) {
  return { count: data.length, stream, isLoading }
}

/** Two rows to begin with; the name of their table. */
async function bolts(stack, name) {
  const table = stack.table(name)
  await stack.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
  await stack.query(`INSERT INTO ${table} VALUES (1, 'bolts'), (2, 'nuts')`)
  return table
}

/** Renders a component until the test ends; the text that it shows. */
function render(t, component) {
  const container = document.body.appendChild(document.createElement('div'))
  const root = createRoot(container)
  root.render(createElement(component))
  t.after(() => {
    root.unmount()
    container.remove()
  })
  return () => container.textContent
}
