import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { silentLog } from '@lifeboat/foundation/log';
import { startTemporalServer } from '@lifeboat/runtime/temporal-server';
import type { TemporalServer } from '@lifeboat/runtime/temporal-server';

/** The product's embedded server with its state in a directory of the test, and a client of it. */
export interface TestServer {
  readonly address: string;
  readonly client: Client;
  readonly directory: string;
  /** kill -9, then the same database on the same port. */
  killAndRestart(): Promise<void>;
  /** Ends server and client and removes the directory. */
  stop(): Promise<void>;
}

export async function startTestServer(): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'lifeboat-temporal-'));
  const start = (port?: number): Promise<TemporalServer> =>
    startTemporalServer({
      executable: process.env['LIFEBOAT_TEMPORAL'] ?? 'temporal',
      directory,
      namespace: 'default',
      log: silentLog,
      signal: new AbortController().signal,
      ...(port === undefined ? {} : { port }),
    });
  let server = await start();
  const { address } = server;
  const connection = await Connection.connect({ address });
  return {
    address,
    client: new Client({ connection }),
    directory,
    async killAndRestart() {
      process.kill(server.pid, 'SIGKILL');
      await server.exited;
      await server.stop();
      server = await start(Number(address.split(':')[1]));
    },
    async stop() {
      await connection.close();
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
