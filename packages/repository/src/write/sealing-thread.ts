/** Entry of a sealing thread: opens the source for itself, then serves one lane. */
import { parentPort, workerData } from 'node:worker_threads';

import { zstd } from '../seal/codec.ts';
import { LocalLane } from './sealing-lane.ts';
import { toWire, type Answers, type Request, type Response, type ThreadData } from './thread-protocol.ts';

const port = parentPort;
if (!port) throw new Error('sealing-thread.ts runs as a worker thread only');
const answer = (response: Response, moved: ArrayBuffer[] = []): void => port.postMessage(response, moved);

try {
  const { config, zstdLevel } = workerData as ThreadData;
  const lane = await LocalLane.open(config, zstd(zstdLevel));

  const serve: { readonly [V in Request['verb']]: (request: Extract<Request, { verb: V }>) => Promise<Answers[V]> } = {
    hash: ({ chunks }) => lane.hash(chunks),
    store: ({ request }) => lane.store(request),
    seal: () => lane.seal(),
    close: () => lane.close(),
  };

  const respond = async (request: Request): Promise<void> => {
    try {
      const value = await serve[request.verb](request as never);
      // A pack buffer is handed back, not copied.
      answer({ id: request.id, value }, 'buffer' in value ? [value.buffer] : []);
    } catch (error) {
      answer({ id: request.id, error: toWire(error) });
    }
    // Nothing else keeps the thread alive: it ends by itself.
    if (request.verb === 'close') port.close();
  };

  port.on('message', (request: Request) => void respond(request));
  answer({ id: 0, value: {} });
} catch (error) {
  answer({ id: 0, error: toWire(error) });
}
