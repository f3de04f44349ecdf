// An origin that writes down each request the moment it has it, before any answer, so that what was
// delivered is known even when the process is killed in the next instant.
'use strict';
const fs = require('fs');
const http = require('http');

const log = fs.openSync(process.env.LOG, 'a');
// Milliseconds to an answer, or to its next piece: long enough that a kill finds some on the way.
const BEAT = 40;
const BEATS = 8;

const server = http.createServer((request, response) => {
  fs.writeSync(log, `${request.method} ${request.url}\n`);
  request.resume();
  request.on('end', () => {
    if (request.url.startsWith('/long/')) return drip(response, BEATS);
    setTimeout(() => response.end(`answer to ${request.url}`), BEAT);
  });
});

function drip(response, left) {
  response.write(`beat ${left} ${'.'.repeat(1000)}\n`);
  if (left > 1) return setTimeout(() => drip(response, left - 1), BEAT);
  response.end('the end\n');
}

server.listen(Number(process.env.PORT), '127.0.0.1');
