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
  /** The machine whose job it is; its own id where that cannot be told: its removal then fails, and keeps it, but no other. */
  const ownerOfJob = async (opId: OpId): Promise<string | undefined> => {
    try {
      const begun = await begunOf(deps, opId);
      if (!begun) return undefined;
      const current = await deps.hypervisor.currentBackup(parseMachineId(begun.machineId));
      return current?.ours === true && current.directory === jobDirectory(deps, opId) ? begun.machineId : undefined;
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
      const begun = await begunOf(deps, opId);
      if (!begun) return;
      const machineId = parseMachineId(begun.machineId);
      await deps.hypervisor.endBackup(machineId, jobDirectory(deps, opId));
      const points = await deps.repository.points(machineId);
      if (!points.some(({ pointId }) => pointId === begun.pointId)) {
        await deps.hypervisor.deleteCheckpoint(machineId, parsePointId(begun.pointId));
      }
    },
  };
}

type WithState = Pick<EngineDeps, 'stateRoot'>;

/** What the last attempt of a capture noted. Errors: `host.record-damaged`. */
export async function begunOf({ stateRoot }: WithState, opId: OpId): Promise<Begun | undefined> {
  return (await recallFact(operationDirectory(stateRoot, opId), 'begun')) as Begun | undefined;
}

/** Where the job of a capture has its files. */
export function jobDirectory({ stateRoot }: WithState, opId: OpId): string {
  return join(operationDirectory(stateRoot, opId), QEMU_DIRECTORY);
}

/** Undefined for what is no operation, such as `lost+found`; the reaper tells of it. */
export function opIdOf(name: string): OpId | undefined {
  try {
    return parseOpId(name);
  } catch (error) {
    if (hasCode(error, 'input.invalid')) return undefined;
    throw error;
  }
}
