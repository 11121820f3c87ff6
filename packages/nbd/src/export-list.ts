import { LifeboatError } from '@lifeboat/foundation/errors';
import { list } from './client/negotiation.ts';
import { openTransport } from './client/transport.ts';
import type { ListedExport } from './option-codec.ts';

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * What a server on this socket offers, in its order.
 * Errors: `nbd.connect-failed`, `nbd.export-refused` (it does not tell), `nbd.timeout`, `nbd.protocol-error`, the signal's reason.
 */
export async function listExports(
  socketPath: string,
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<ListedExport[]> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  signal?.throwIfAborted();
  const listed = Promise.withResolvers<ListedExport[]>();
  const transport = openTransport({
    socketPath,
    parser: function* (send) {
      listed.resolve(yield* list(send));
    },
    onClosed: (error) => listed.reject(error),
  });
  const onAbort = (): void => listed.reject(signal?.reason);
  const timer = setTimeout(() => {
    listed.reject(
      new LifeboatError('nbd.timeout', `NBD server at ${socketPath}: no list of exports within ${timeoutMs} ms`),
    );
  }, timeoutMs);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await listed.promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    transport.destroy(new LifeboatError('nbd.connection-lost', `NBD server at ${socketPath}: closed by this side`));
  }
}
