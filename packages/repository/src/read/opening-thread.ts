/** Entry of a thread that opens blobs. */
import { parentPort } from 'node:worker_threads';

import { openBlob } from '../seal/blob-seal.ts';
import { zstd } from '../seal/codec.ts';
import { discard } from '../seal/discard.ts';
import type { OpenRequest, OpenResponse } from './thread-opener.ts';

const port = parentPort;
if (!port) throw new Error('opening-thread.ts runs as a worker thread only');
const compression = zstd(1);

port.on('message', ({ id, opening, memory, sealedBytes }: OpenRequest) => {
  const opened = openBlob(opening, new Uint8Array(memory, 0, sealedBytes), compression);
  let response: OpenResponse;
  if ('failure' in opened) response = { id, failure: opened.failure };
  else {
    new Uint8Array(memory).set(opened.plain);
    response = { id, plainBytes: opened.plain.length };
    discard(opened.plain);
  }
  port.postMessage(response);
});
