// Loaded by each JavaScript kernel when it has started.

import { createRequire } from "node:module";
import nodeCrypto from "node:crypto";
import process from "node:process";

globalThis.require = createRequire(Deno.cwd() + "/");
globalThis.__dirname = Deno.cwd();

// What is printed goes out as messages in order with results. Deno's own way,
// through pipes, lets a kernel say that it is idle before the last lines are out.
(() => {
  const internal = Deno[Deno.internal], showResult = internal.jupyter.broadcastResult, send = Deno.jupyter.broadcast;
  const message = 64 << 10, most = 16 << 20; // characters
  const printed = []; // [name, text], since the code last waited for something
  let size = 0, due = false, sent = Promise.resolve();

  function flush() {
    due = false;
    size = 0;
    for (const [name, text] of printed.splice(0)) {
      sent = sent.then(() => send("stream", { name, text })).catch(() => {});
    }
    return sent;
  }

  function print(text, level) {
    if ((size += text.length) > most) { // of code that prints without end
      internal.core.print(text, level > 1);
      return;
    }
    const name = level > 1 ? "stderr" : "stdout", last = printed.at(-1);
    if (last && last[0] === name && last[1].length < message) last[1] += text;
    else printed.push([name, text]);
    if (!due) queueMicrotask(flush);
    due = true;
  }

  Object.assign(console, new internal.Console(print));
  for (const [stream, level] of [[process.stdout, 1], [process.stderr, 2]]) {
    const write = stream.write;
    stream.write = (text, ...more) => {
      if (typeof text !== "string") return write.call(stream, text, ...more);
      print(text, level);
      more.find((f) => typeof f === "function")?.();
      return true;
    };
  }
  internal.jupyter.broadcastResult = async (...result) => {
    await flush();
    await showResult(...result);
  };
})();

// What is random comes from the system, which gives each copy of a sandbox
// other bytes. Deno draws ahead, from a state that copies would have in common.
(() => {
  const system = Deno.openSync("/dev/urandom");

  function fill(bytes) {
    for (let n = 0; n < bytes.length; ) n += system.readSync(bytes.subarray(n));
    return bytes;
  }

  // Math.random is the generator sfc32, seeded anew after some numbers and
  // whenever code has waited for something, as it does at its end.
  const seed = new Uint32Array(4);
  const seedBytes = new Uint8Array(seed.buffer);
  let left = 0;

  function next() {
    const sum = (seed[0] + seed[1] + seed[3]) >>> 0;
    seed[3] += 1;
    seed[0] = seed[1] ^ (seed[1] >>> 9);
    seed[1] = seed[2] + (seed[2] << 3);
    seed[2] = ((seed[2] << 21) | (seed[2] >>> 11)) + sum;
    return sum;
  }

  const stale = () => (left = 0);
  Math.random = function random() {
    if (left-- <= 0) {
      fill(seedBytes);
      left = 256;
      queueMicrotask(stale);
    }
    return ((next() >>> 5) * 0x4000000 + (next() >>> 6)) / 0x20000000000000;
  };

  const { getRandomValues } = crypto;
  crypto.getRandomValues = (array) => {
    getRandomValues.call(crypto, array); // checks what it is given
    fill(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    return array;
  };
  crypto.randomUUID = nodeCrypto.randomUUID = () => {
    const bytes = fill(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  };
  const { randomBytes } = nodeCrypto;
  nodeCrypto.randomBytes = (size, done) => {
    const bytes = fill(randomBytes(size));
    if (!done) return bytes;
    queueMicrotask(() => done(null, bytes));
  };
})();
