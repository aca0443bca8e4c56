// Everything random in a running Node process, which has used it before.
import crypto from 'node:crypto'
import http from 'node:http'

const draw = () => ({
  randomBytes: crypto.randomBytes(16).toString('hex'),
  randomUUID: crypto.randomUUID(),
  getRandomValues: `${crypto.getRandomValues(new Uint32Array(4))}`,
  webUUID: crypto.webcrypto.randomUUID(),
  'Math.random': `${Math.random()}`,
  key: crypto.generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x,
})
for (let i = 0; i < 3; i++) draw()
http.createServer((req, res) => res.end(JSON.stringify(draw()))).listen(8001, '0.0.0.0')
