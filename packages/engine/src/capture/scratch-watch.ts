/**
 * A backup job must not hurt the machine it backs up. While it runs, QEMU saves every block the guest overwrites into scratch
 * files; when their filesystem is full, the guest's own writes fail, and it stands still. So the job is given up before.
 *
 *   look, 5 times a second: free bytes, state of the guest ─► too low, or stopped ─► work aborted, job ended, guest resumed
 *
 * Not guaranteed: that a guest which overwrites more than the floor between two looks is never stopped. It then stands still
 * until the second look. Between two attempts the agent looks (forsaken-jobs.ts); while there is no agent, nobody does.
 */
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { freeBytes } from '@lifeboat/host/disk-space';
import type { BackupJob, MachineDescription } from '@lifeboat/hypervisor/port';
import type { EngineDeps } from '../deps.ts';

/** What a guest that writes 1 GB/s overwrites between two looks. */
export const SCRATCH_FLOOR_BYTES = 256 * MiB;
const LOOK_MS = 200;

export interface Watched {
  readonly machine: Pick<MachineDescription, 'id' | 'name'>;
  readonly job: Pick<BackupJob, 'diskFailedBefore'>;
  /** Of the scratch files. */
  readonly directory: string;
}

export type WatchDeps = Pick<EngineDeps, 'hypervisor' | 'clock' | 'log'> & { readonly free?: typeof freeBytes };

/**
 * Runs `work` beside the watch. With `reads`, work that reads the exports: it is aborted, and the job ended once it has
 * closed its readers, for QEMU hangs when it stops its server in the middle of a handshake. Without, the job is ended
 * at once, and the work goes on. Errors: `disk.full`, and those of `work`.
 */
export async function whileScratchLasts<T>(
  deps: WatchDeps,
  watched: Watched,
  { signal, reads }: { signal: AbortSignal; reads: boolean },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const giveUp = new AbortController();
  const over = new AbortController();
  const end = (): Promise<void> => deps.hypervisor.endBackup(watched.machine.id, watched.directory);
  const onTrouble = async (trouble: LifeboatError): Promise<void> => (reads ? giveUp.abort(trouble) : end());
  const watch = watchScratch(deps, watched, { over: over.signal, onTrouble });
  // Awaited below; until then a failure must not count as unhandled.
  watch.catch(() => {});
  try {
    return await work(AbortSignal.any([signal, giveUp.signal]));
  } catch (error) {
    throw giveUp.signal.aborted ? giveUp.signal.reason : error;
  } finally {
    over.abort();
    await watch;
    if (giveUp.signal.aborted) await end();
  }
}

/** Settles when the job had to end, and `onTrouble` with it, or once `over`. */
async function watchScratch(
  deps: WatchDeps,
  watched: Watched,
  { over, onTrouble }: { over: AbortSignal; onTrouble: (trouble: LifeboatError) => Promise<void> },
): Promise<void> {
  let said = false;
  while (!over.aborted) {
    let trouble: LifeboatError | undefined;
    try {
      trouble = await scratchTrouble(deps, watched);
    } catch (error) {
      // What cannot be looked at now may be in a moment; if not, the work itself fails.
      if (!said) deps.log.warn(`the scratch files of ${watched.machine.name} cannot be watched: ${messageOf(error)}`);
      said = true;
    }
    if (trouble) return onTrouble(trouble);
    // Rejects with the reason of `over`, which the loop asks for itself.
    await deps.clock.sleep(LOOK_MS, over).catch(() => {});
  }
}

/** Why the job has to end now; undefined while it may go on. */
export async function scratchTrouble(
  { hypervisor, free = freeBytes }: Omit<WatchDeps, 'log' | 'clock'>,
  { machine, job, directory }: Watched,
): Promise<LifeboatError | undefined> {
  const left = await free(directory);
  const stopped = !job.diskFailedBefore && (await hypervisor.machineState(machine.id)) === 'disk-failed';
  if (!stopped && left >= SCRATCH_FLOOR_BYTES) return undefined;
  const why = stopped
    ? `a write of machine ${machine.name} failed while its backup ran, and it stood still until the backup was ended`
    : `the backup of machine ${machine.name} was ended before its own writes would have failed`;
  return new LifeboatError(
    'disk.full',
    `${why}: its scratch files in ${directory} left ${formatBytes(left)} (${left} bytes) free, and need a reserve of ${formatBytes(SCRATCH_FLOOR_BYTES)}`,
    { context: { machine: machine.name, path: directory, freeBytes: left, neededBytes: SCRATCH_FLOOR_BYTES } },
  );
}
