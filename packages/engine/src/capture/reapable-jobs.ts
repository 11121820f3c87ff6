/** Backup jobs of captures that died, for the reaper: a job left running copies every block the guest overwrites. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseMachineId, parseOpId, parsePointId } from '@lifeboat/foundation/ids';
import { recallFact } from '@lifeboat/host/operation';
import { operationDirectory, opsDirectory } from '@lifeboat/host/operation-directory';
import type { Reapable } from '@lifeboat/host/reapable';
import type { EngineDeps } from '../deps.ts';
import type { Begun } from './capture-machine.ts';

const KIND = 'backup-job';
/** Name of the directory QEMU writes in, beneath an operation's. */
const QEMU_DIRECTORY = 'qemu';

export function reapableJobs(deps: EngineDeps): Reapable {
  const begunOf = async (opId: string): Promise<Begun | undefined> =>
    (await recallFact(operationDirectory(deps.stateRoot, parseOpId(opId)), 'begun')) as Begun | undefined;
  return {
    async list() {
      const items = [];
      for (const name of await readdir(opsDirectory(deps.stateRoot))) {
        const begun = await begunOf(name);
        if (!begun) continue;
        const directory = join(operationDirectory(deps.stateRoot, parseOpId(name)), QEMU_DIRECTORY);
        const current = await deps.hypervisor.currentBackup(parseMachineId(begun.machineId));
        if (current?.ours && current.directory === directory) {
          items.push({ kind: KIND, name: begun.machineId, opId: parseOpId(name), hostId: deps.hostId });
        }
      }
      return items;
    },
    async remove({ opId }) {
      const begun = await begunOf(opId);
      if (!begun) return;
      const machineId = parseMachineId(begun.machineId);
      await deps.hypervisor.endBackup(machineId, join(operationDirectory(deps.stateRoot, opId), QEMU_DIRECTORY));
      const points = await deps.repository.points(machineId);
      if (!points.some(({ pointId }) => pointId === begun.pointId)) {
        await deps.hypervisor.deleteCheckpoint(machineId, parsePointId(begun.pointId));
      }
    },
  };
}
