/** Backup jobs of captures that died, for the reaper: a job left running copies every block the guest overwrites. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import { type OpId, parseMachineId, parseOpId, parsePointId } from '@lifeboat/foundation/ids';
import { recallFact } from '@lifeboat/host/operation';
import { operationDirectory, opsDirectory } from '@lifeboat/host/operation-directory';
import type { Reapable, ReapableItem } from '@lifeboat/host/reapable';
import type { EngineDeps } from '../deps.ts';
import type { Begun } from './capture-machine.ts';

const KIND = 'backup-job';
/** Name of the directory QEMU writes in, beneath an operation's. */
const QEMU_DIRECTORY = 'qemu';

export function reapableJobs(deps: EngineDeps): Reapable {
  const begunOf = async (opId: OpId): Promise<Begun | undefined> =>
    (await recallFact(operationDirectory(deps.stateRoot, opId), 'begun')) as Begun | undefined;
  /** The machine whose job it is; its own id where that cannot be told: its removal then fails, and keeps it, but no other. */
  const ownerOfJob = async (opId: OpId): Promise<string | undefined> => {
    try {
      const begun = await begunOf(opId);
      if (!begun) return undefined;
      const directory = join(operationDirectory(deps.stateRoot, opId), QEMU_DIRECTORY);
      const current = await deps.hypervisor.currentBackup(parseMachineId(begun.machineId));
      return current?.ours === true && current.directory === directory ? begun.machineId : undefined;
    } catch (error) {
      deps.log.warn(`whether ${opId} left a backup job cannot be told: ${messageOf(error)}`, { opId });
      return opId;
    }
  };
  return {
    async list() {
      const items: ReapableItem[] = [];
      for (const name of await readdir(opsDirectory(deps.stateRoot))) {
        const opId = opIdOf(name);
        const owner = opId && (await ownerOfJob(opId));
        if (opId && owner) items.push({ kind: KIND, name: owner, opId, hostId: deps.hostId });
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

/** Undefined for what is no operation, such as `lost+found`; the reaper tells of it. */
function opIdOf(name: string): OpId | undefined {
  try {
    return parseOpId(name);
  } catch (error) {
    if (hasCode(error, 'input.invalid')) return undefined;
    throw error;
  }
}
