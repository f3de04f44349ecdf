// The echo contract of mod.rs on Node's http server.
'use strict';
const fs = require('fs');
const http = require('http');

const log = (request, size) =>
  fs.appendFileSync(process.env.LOG, `${request.method} ${request.url} ${size} ${request.socket.remotePort}\n`);

function echoed(request, body) {
  const lines = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    lines.push(`${request.rawHeaders[i].toLowerCase()}: ${request.rawHeaders[i + 1]}\n`);
  }
  const head = `${request.method} ${request.url}\n${lines.sort().join('')}\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

function answer(request, response, body) {
  const path = request.url.split('?')[0];
  const [, kind, number] = /^\/(status|down)\/(\d+)$/.exec(path) || [];
  response.setHeader('x-origin', 'node');
  response.setHeader('x-twice', ['one', 'two']);
  if (kind === 'status') {
    response.statusCode = Number(number);
    if (number === '304') response.setHeader('etag', '"v1"');
    return response.end(number === '204' || number === '304' ? undefined : `status ${number}\n`);
  }
  if (path === '/chunked') {
    for (const piece of [0, 1, 2]) response.write(`piece ${piece}\n`);
    return response.end();
  }
  const content = kind === 'down' ? Buffer.alloc(Number(number), 'd') : echoed(request, body);
  response.setHeader('content-length', content.length);
  response.end(request.method === 'HEAD' ? undefined : content);
}

const server = http.createServer((request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const body = Buffer.concat(pieces);
    log(request, body.length);
    answer(request, response, body);
  });
});
server.listen(Number(process.env.PORT), '127.0.0.1');
