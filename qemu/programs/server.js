// A server for node, whose compiler writes machine code while it runs. `runtime_tests.rs` boots it with Debian's `nodejs`.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs/promises');
const http = require('node:http');
const { Worker } = require('node:worker_threads');

// Hot enough that it is compiled, and compiled once more when the numbers become fractions.
function sum(count, step) {
  let total = 0;
  for (let index = 0; index < count; index++) total += (index % 7) * step;
  return total;
}

function inWorker(number) {
  return new Promise((resolve, reject) => {
    const source = 'const { parentPort, workerData } = require("worker_threads"); parentPort.postMessage(workerData * 2);';
    const worker = new Worker(source, { eval: true, workerData: number });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

const answers = {
  '/': async () => 'hello from node',
  '/compiled': async () => `${sum(1e6, 1)} ${sum(1e6, 0.5)}`,
  '/file': async () => {
    await fs.writeFile('/tmp/a', 'kept ');
    await fs.appendFile('/tmp/a', 'here');
    return fs.readFile('/tmp/a', 'utf8');
  },
  '/hash': async () => crypto.pbkdf2Sync('word', 'salt', 10, 16, 'sha256').toString('hex'),
  '/worker': async () => String(await inWorker(21)),
};

const server = http.createServer(async (request, response) => {
  const answer = answers[request.url];
  response.statusCode = answer ? 200 : 404;
  const body = answer ? await answer() : 'nothing';
  response.setHeader('Content-Length', Buffer.byteLength(body));
  response.end(body);
});
process.on('SIGTERM', () => {
  server.close(() => console.log('closed'));
  server.closeAllConnections();
});
server.listen(8080, () => console.log('listening'));
