/**
 * Backup jobs between two attempts of their captures: the one before failed or was killed, and the next waits for its turn, or
 * for a repository that is away. Nobody reads then, but QEMU goes on filling their scratch files; so the agent looks.
 *
 *   each second, per operation with a job: nearly full, or the guest stopped ─► its lock ─► job ended, guest resumed
 *
 * Who holds the lock watches for himself (scratch-watch.ts). The next attempt finds no job and takes another instant.
 */
import { readdir } from 'node:fs/promises';
import { messageOf } from '@lifeboat/foundation/errors';
import { type OpId, parseMachineId } from '@lifeboat/foundation/ids';
import { takeLock } from '@lifeboat/host/file-lock';
import { lockPath, operationDirectory, opsDirectory } from '@lifeboat/host/operation-directory';
import type { EngineDeps } from '../deps.ts';
import { begunOf, jobDirectory, opIdOf } from './reapable-jobs.ts';
import { scratchTrouble, type WatchDeps } from './scratch-watch.ts';

/** A guest may stand still for this long, if it overwrites more than the reserve in that time. */
const LOOK_MS = 1000;

type ForsakenDeps = WatchDeps & Pick<EngineDeps, 'stateRoot'>;

/** Resolves once `signal` aborts and the looks at hand are over. What cannot be looked at is said in the log, once, and tried again. */
export async function watchForsakenJobs(deps: ForsakenDeps, signal: AbortSignal): Promise<void> {
  const directory = opsDirectory(deps.stateRoot);
  const problems = new Map<string, string>();
  /** By operation: one whose machine does not answer for a while must not keep the others waiting. */
  const looks = new Map<string, Promise<void>>();
  const tell = (what: string, problem: string): void => {
    if (problems.get(what) !== problem) deps.log.warn(problem);
    problems.set(what, problem);
  };
  const look = async (name: string): Promise<void> => {
    try {
      const opId = opIdOf(name);
      if (opId) await endIfTroubled(deps, opId);
      problems.delete(name);
    } catch (error) {
      tell(name, `whether ${name} left a backup job that fills its scratch files cannot be told: ${messageOf(error)}`);
    } finally {
      looks.delete(name);
    }
  };
  while (!signal.aborted) {
    const names = new Set(await namesOf(directory, tell));
    for (const known of problems.keys()) if (known !== directory && !names.has(known)) problems.delete(known);
    for (const name of names) if (!looks.has(name)) looks.set(name, look(name));
    // Rejects with the reason of `signal`, which the loop asks for itself.
    await deps.clock.sleep(LOOK_MS, signal).catch(() => {});
  }
  await Promise.all(looks.values());
}

async function namesOf(directory: string, tell: (what: string, problem: string) => void): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    tell(directory, `backup jobs that were left cannot be looked for: ${messageOf(error)}`);
    return [];
  }
}

async function endIfTroubled(deps: ForsakenDeps, opId: OpId): Promise<void> {
  const { hypervisor, stateRoot, log } = deps;
  const begun = await begunOf(deps, opId);
  if (!begun) return;
  const machineId = parseMachineId(begun.machineId);
  const directory = jobDirectory(deps, opId);
  const current = await hypervisor.currentBackup(machineId);
  if (!current?.ours || current.directory !== directory) return;
  const job = await hypervisor.attachBackup(machineId, directory);
  const machine = { id: machineId, name: begun.machineId };
  const trouble = await scratchTrouble(deps, { machine, job, directory });
  if (!trouble) return;
  const lock = await takeLock(lockPath(operationDirectory(stateRoot, opId)), { waitMs: 0 });
  if (!lock) return;
  try {
    log.warn(trouble.message, { opId, machine: begun.machineId });
    await hypervisor.endBackup(machineId, directory);
  } finally {
    await lock.release();
  }
}
