import { LifeboatError } from '@lifeboat/foundation/errors';

/** `sun_path` of unix(7) without its end. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Errors: `host.path-too-long`. Without this the kernel cuts nothing, but the program's own message is hard to read. */
export function assertSocketPath(path: string): void {
  const lengthBytes = Buffer.byteLength(path);
  if (lengthBytes <= MAX_SOCKET_PATH_BYTES) return;
  throw new LifeboatError(
    'host.path-too-long',
    `The socket path ${path} has ${lengthBytes} bytes; a UNIX socket has at most ${MAX_SOCKET_PATH_BYTES}`,
    { context: { path, lengthBytes } },
  );
}
