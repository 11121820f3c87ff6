/**
 * The process behind a point's export: `node point-export-main.ts MACHINE POINT SOCKET`, configuration in the environment.
 * Opens the point and serves its disks, read-only, until it is told to end; prints one line when it answers.
 */
import { answeringDevice } from '@lifeboat/engine/export/answering-device';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import { jsonLog } from '@lifeboat/foundation/log';
import { serveNbd } from '@lifeboat/nbd/server';
import { loadConfiguration } from './configuration.ts';
import { openConfiguredRepository } from './repository.ts';

const log = jsonLog((line) => process.stderr.write(line));
const [machine = '', point = '', socketPath] = process.argv.slice(2);
if (!socketPath) throw new LifeboatError('input.invalid', 'usage: point-export-main MACHINE POINT SOCKET');
const repository = await openConfiguredRepository(loadConfiguration(), { log });
const opened = await repository.readPoint(parseMachineId(machine), parsePointId(point));
/** Whoever started this process sees that it is gone. */
function giveUp(reason: unknown): never {
  log.error(`the point is not served any more: ${messageOf(reason)}`, { machine, point });
  process.exit(1);
}
const devices = new Map(
  opened.disks.map(({ name }) => {
    return [name, answeringDevice(repository.openDisk(opened, name), { clock: systemClock, giveUp })] as const;
  }),
);
// QEMU runs under another account; the directory around the socket keeps everybody else out.
const server = await serveNbd({ socketPath, exports: devices, log, socketMode: 0o666 });
log.info('point is served', { machine, point, socketPath });

let stopping = false;
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    if (stopping) return;
    stopping = true;
    void stop();
  });
}

async function stop(): Promise<void> {
  await server.close();
  log.info('point was served', { machine, point, bytesServed: server.bytesServed });
  for (const device of devices.values()) await device.close();
  await repository.close();
}
