/** Starts the process that serves a point, and waits until it answers. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { PointExporter } from '@lifeboat/engine/export/point-exporter';
import { startChild } from '@lifeboat/host/children';
import { NbdClient } from '@lifeboat/nbd/client';
import { listExports } from '@lifeboat/nbd/export-list';
import { systemClock } from '@lifeboat/foundation/clock';
import { type Configuration, configurationEnvironment } from './configuration.ts';

const MAIN = fileURLToPath(new URL('point-export-main.ts', import.meta.url));
const NAME = 'point-export';
/** Node, the key (scrypt) and the point: 1 s on an idle machine. */
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const CALL_TIMEOUT_MS = 10_000;

export function processPointExporter(configuration: Configuration): PointExporter {
  return async ({ machineId, pointId, directory, qemuDirectory }, { signal }) => {
    const socketPath = join(qemuDirectory, 'point.sock');
    const child = await startChild(process.execPath, [MAIN, machineId, pointId, socketPath], {
      directory,
      name: NAME,
      env: configurationEnvironment(configuration),
    });
    try {
      const names = await ready();
      const disks = [];
      for (const name of names) disks.push({ name, sizeBytes: await sizeOf(socketPath, name, signal) });
      let told = false;
      return {
        socketPath,
        disks,
        assertServing: () => {
          if (child.exit && !told) throw failed('it ended while a guest used it');
        },
        stop: async () => {
          told = true;
          await child.stop();
        },
      };
    } catch (error) {
      await child.stop();
      throw error;
    }

    async function ready(): Promise<string[]> {
      const untilMs = systemClock.monotonicMs() + READY_TIMEOUT_MS;
      for (;;) {
        signal.throwIfAborted();
        if (child.exit) throw failed('it ended');
        try {
          const exports = await listExports(socketPath, { timeoutMs: CALL_TIMEOUT_MS, signal });
          return exports.map(({ name }) => name);
        } catch (error) {
          signal.throwIfAborted();
          // Not listening yet; a lasting fault shows in the time limit, with this as its text.
          if (systemClock.monotonicMs() > untilMs) throw failed(messageOf(error));
        }
        await systemClock.sleep(POLL_MS, signal);
      }
    }

    function failed(why: string): LifeboatError {
      return new LifeboatError(
        'engine.export-failed',
        `the process that serves point ${pointId} does not answer: ${why}; ${child.outputTail().trim() || 'it said nothing'}`,
        { context: { pointId, log: child.logPath } },
      );
    }
  };
}

async function sizeOf(socketPath: string, exportName: string, signal: AbortSignal): Promise<number> {
  const client = await NbdClient.connect({ socketPath, exportName }, { signal, timeoutMs: CALL_TIMEOUT_MS });
  try {
    return client.sizeBytes;
  } finally {
    await client.close();
  }
}
