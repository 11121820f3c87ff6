/** Entry of a thread that opens blobs. */
import { parentPort } from 'node:worker_threads';

import { openBlob } from '../seal/blob-seal.ts';
import { zstd } from '../seal/codec.ts';
import { discard } from '../seal/discard.ts';
import { ownMemory, type OpenRequest, type OpenResponse } from './thread-opener.ts';

const port = parentPort;
if (!port) throw new Error('opening-thread.ts runs as a worker thread only');
const compression = zstd(1);

port.on('message', ({ id, opening, sealed }: OpenRequest) => {
  const opened = openBlob(opening, sealed, compression);
  discard(sealed);
  if ('failure' in opened) port.postMessage({ id, ...opened } satisfies OpenResponse);
  else port.postMessage({ id, plain: opened.plain } satisfies OpenResponse, ownMemory(opened.plain));
});
