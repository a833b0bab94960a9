// A real Chromium on the page of `limn dev`, its shape coming through the edge worker.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { chromium } from 'playwright-core'
import { Servers } from './support.mjs'

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

function executablePath() {
  const known = [process.env.CHROMIUM, '/usr/bin/chromium'].find((path) => path && existsSync(path))
  // Without either it is the browser that playwright downloaded.
  return known ?? chromium.executablePath()
}
