// Loaded by each JavaScript kernel when it has started.

import { createRequire } from "node:module";
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
