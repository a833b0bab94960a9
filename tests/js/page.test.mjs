// A real Chromium on the page of `limn dev`, its shape coming through the edge worker.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { chromium } from 'playwright-core'
import { ROOT, Servers } from './support.mjs'

/** Of the files that an example page loads. */
const KINDS = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' }

/** Headless, and quiet: nothing that the browser would look up by itself. */
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
]

const servers = new Servers()
const profile = mkdtempSync(join(tmpdir(), 'limn-chromium-'))
let dev, browser

before(async () => {
  dev = await servers.dev()
  await dev.startEdge()
  browser = await chromium.launchPersistentContext(profile, { executablePath: executablePath(), args: FLAGS })
})

after(async () => {
  await browser?.close()
  await servers.end()
  rmSync(profile, { recursive: true, force: true })
})

describe('the demo page', () => {
  it('shows a row after the click that inserts it, through the edge worker', async () => {
    const page = await browser.newPage()
    const failures = []
    page.on('pageerror', (error) => failures.push(error.message))
    const shapeRequests = []
    page.on('request', (request) => {
      if (request.url().includes('/v1/shape')) shapeRequests.push(new URL(request.url()).origin)
    })
    await page.goto(`${dev.url}/`)
    const rows = page.locator('#rows > *')
    await rows.first().waitFor()
    const before = await rows.count()
    await page.click('#insert')
    await rows.nth(before).waitFor()
    assert.equal(await rows.count(), before + 1)
    assert.deepEqual(failures, [])
    assert.ok(shapeRequests.length > 0, 'the page asked for a shape')
    assert.deepEqual([...new Set(shapeRequests)], [dev.edgeUrl])
  })

  it('shows the same rows in a second tab', async () => {
    const [first, second] = [await browser.newPage(), await browser.newPage()]
    await Promise.all([first.goto(`${dev.url}/`), second.goto(`${dev.url}/`)])
    const rows = second.locator('#rows > *')
    await rows.first().waitFor()
    const before = await rows.count()
    await first.click('#insert')
    await rows.nth(before).waitFor()
  })
})

describe('the demo page before everything is built', () => {
  it('shows live rows without client and edge worker, and goes through the edge worker once it serves', async () => {
    const unbuilt = await servers.dev({ clientDir: 'no-such-folder' })
    const page = await browser.newPage()
    const failures = []
    page.on('pageerror', (error) => failures.push(error.message))
    await page.goto(`${unbuilt.url}/`)
    const rows = page.locator('#rows > *')
    await rows.first().waitFor()
    const before = await rows.count()
    await page.click('#insert')
    await rows.nth(before).waitFor()
    assert.match(await page.locator('#route').textContent(), /^the origin/)

    const throughEdge = page.waitForRequest((request) => request.url().startsWith(`${unbuilt.edgeUrl}/v1/shape`))
    await unbuilt.startEdge()
    await throughEdge
    await page.locator('#route', { hasText: 'the edge' }).waitFor()
    await page.locator('#status[data-state=live]').waitFor()
    await page.click('#insert')
    await rows.nth(before + 1).waitFor()
    assert.deepEqual(failures, [])
  })
})

describe('examples/page', () => {
  it('shows the rows of its shape, as they are inserted', async (t) => {
    const files = createServer(async (request, response) => {
      const path = new URL(request.url, 'http://localhost').pathname.replace(/\/$/, '/index.html')
      const body = await readFile(join(ROOT, path)).catch(() => undefined)
      response.writeHead(body ? 200 : 404, { 'content-type': KINDS[extname(path)] ?? 'application/octet-stream' })
      response.end(body)
    })
    await once(files.listen(0, '127.0.0.1'), 'listening')
    t.after(() => files.close())
    const page = await browser.newPage()
    const failures = []
    page.on('pageerror', (error) => failures.push(error.message))
    await page.goto(`http://127.0.0.1:${files.address().port}/examples/page/?server=${dev.url}`)
    const rows = page.locator('#rows > li')
    await rows.first().waitFor()
    const before = await rows.count()
    await fetch(`${dev.url}/demo/insert`, { method: 'POST' })
    await rows.nth(before).waitFor()
    assert.deepEqual(failures, [])
  })
})

function executablePath() {
  const known = [process.env.CHROMIUM, '/usr/bin/chromium'].find((path) => path && existsSync(path))
  // Without either it is the browser that playwright downloaded.
  return known ?? chromium.executablePath()
}
