import { connect } from 'node:net';

const GREETING_TIMEOUT_MS = 1000;

/** Whether an NBD server greets on a UNIX socket now (NBD protocol, "newstyle negotiation": it speaks first). */
export function greets(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const finish = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(GREETING_TIMEOUT_MS, () => finish(false));
    socket.once('error', () => finish(false)); // nobody listens yet; the caller's deadline decides
    socket.once('end', () => finish(false));
    socket.once('data', (greeting) => finish(greeting.toString('latin1', 0, 8) === 'NBDMAGIC'));
  });
}
