// One request whose body and answer take turns: each line is sent when the one before has come back.
// Arguments: address, `http1` or `http2`. Prints how many lines came back, and `end` at a clean end.
'use strict';
const http = require('http');
const http2 = require('http2');

const LINES = 10;
const [address, version] = process.argv.slice(2);

function converse(request, response) {
  let got = '';
  let sent = 1;
  const next = () => request.write(`line ${sent++}\n`);
  response.setEncoding('utf8');
  response.on('data', (piece) => {
    got += piece;
    if (!got.endsWith(`line ${sent - 1}\n`)) return;
    if (sent < LINES) next();
    else request.end();
  });
  response.on('end', () => {
    console.log(got.split('\n').length - 1, 'end');
    process.exit(0);
  });
}

if (version === 'http2') {
  const session = http2.connect(`http://${address}`);
  const stream = session.request({ ':method': 'POST', ':path': '/loop' });
  converse(stream, stream);
  stream.write('line 0\n');
} else {
  const request = http.request(`http://${address}/loop`, { method: 'POST' }, (response) => converse(request, response));
  request.write('line 0\n');
}
