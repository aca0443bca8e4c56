// What the tests of the Sprites SDK share: where the server is, sprites that are
// removed whatever happens, and waiting on conditions.
import { SpritesClient } from '@fly/sprites'
import { request as send } from 'node:http'

export const API_URL = process.env.SPRITES_API_URL
export const TOKEN = process.env.SPRITE_TOKEN
export const client = new SpritesClient(TOKEN, { baseURL: API_URL })

// How long a condition may take to come true before a test gives up.
export const PATIENCE = 30_000

let made = 0

// freshName is a name that no other test of this run has.
export function freshName(what = 'js') {
  made += 1
  return `${what}-${process.pid}-${made}`
}

// withSprite runs f with a sprite of its own.
export async function withSprite(f, options) {
  const sprite = await client.createSprite(freshName(), options)
  try {
    return await f(sprite)
  } finally {
    await sprite.destroy().catch(() => {})
  }
}

// shared creates a sprite for all tests of a suite.
export function shared(before, after, options) {
  const held = {}
  before(async () => { held.sprite = await client.createSprite(freshName(), options) })
  after(async () => { await held.sprite?.destroy() })
  return held
}

export async function until(what, condition, limit = PATIENCE) {
  const end = Date.now() + limit
  for (;;) {
    const got = await condition()
    if (got) return got
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain for ${what}`)
    await new Promise(r => setTimeout(r, 25))
  }
}

// failure is the error that a promise must end with.
export async function failure(promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it succeeded')
}

// text collects a stream.
export function text(stream) {
  let all = ''
  stream.setEncoding('utf8')
  stream.on('data', chunk => { all += chunk })
  return () => all
}

// messages reads a stream of checkpoints, services or kills to its end.
export async function messages(stream) {
  const all = []
  await (await stream).processAll(m => { all.push(m) })
  return all
}

// visit makes a request to a sprite's URL: names below localhost lead here,
// whether the host's resolver knows that or not.
export function visit(sprite, path = '/', { method = 'GET', headers = {}, body } = {}) {
  const api = new URL(API_URL)
  const url = new URL(sprite.url)
  return new Promise((resolve, reject) => {
    const r = send({ host: api.hostname, port: api.port, path, method, headers: { host: url.host, ...headers } }, res => {
      let all = ''
      res.setEncoding('utf8')
      res.on('data', chunk => { all += chunk })
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: all }))
      res.on('error', reject)
    })
    r.on('error', reject)
    r.end(body)
  })
}
