// An origin that says what a test wants, and remembers what it was asked.

import { once } from 'node:events'
import { createServer } from 'node:http'

/** Starts it; `answer(request, response)` may be replaced at any time. */
export async function startOrigin() {
  const origin = { asked: [], answer: () => {} }
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const { method, url, headers } = request
    origin.asked.push({ method, url, headers, body: Buffer.concat(chunks).toString() })
    origin.answer(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin.url = `http://127.0.0.1:${server.address().port}`
  origin.end = async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  return origin
}

/** Answers as Limn answers a read of a log. `headers` add to the usual ones; undefined takes one away. */
export function reply(response, body, headers = {}, status = 200) {
  const all = {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'public, max-age=60, stale-while-revalidate=300',
    'electric-handle': '1001-20',
    'electric-offset': '0_0',
    'electric-has-data': 'true',
    etag: '"1001-20:-1:0_0"',
    vary: 'accept-encoding, origin',
    'access-control-allow-origin': 'https://somebody-else.example',
    'x-request-id': 'of-one-request',
    ...headers,
  }
  const sent = Object.entries(all).filter(([, value]) => value !== undefined)
  response.writeHead(status, Object.fromEntries(sent))
  response.end(body)
}
