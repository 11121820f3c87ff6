/**
 * `ops/<opId>` on disk, shared by operations and the reaper.
 *
 *   intent.json   first of all, never changed    lock   flock of the living attempt
 *   facts/        what the operation noted       qemu/  for QEMU's account
 */
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { OpId } from '@lifeboat/foundation/ids';
import { readRecord, removeIfThere, syncDirectory, TEMPORARY_SUFFIX } from './durable-file.ts';
import { mountsBeneath } from './mounts.ts';

const INTENT = 'intent.json';
const LOCK = 'lock';
const FORMAT = 1;

/** What `intent.json` holds. */
export interface IntentRecord {
  readonly format: typeof FORMAT;
  readonly opId: string;
  /** Of the host entity's live set when the operation was handed out: only a newer set may say it is over. */
  readonly epoch: number;
  readonly intent: unknown;
}

export const opsDirectory = (stateRoot: string): string => join(stateRoot, 'ops');
export const operationDirectory = (stateRoot: string, opId: OpId): string => join(opsDirectory(stateRoot), opId);
export const intentPath = (directory: string): string => join(directory, INTENT);
export const lockPath = (directory: string): string => join(directory, LOCK);

export function intentRecord(opId: OpId, epoch: number, intent: unknown): IntentRecord {
  return { format: FORMAT, opId, epoch, intent };
}

/** Errors: `host.record-damaged` if there is one that cannot be understood. */
export async function readIntent(directory: string, opId: string): Promise<IntentRecord | undefined> {
  const path = intentPath(directory);
  const value = await readRecord(path);
  if (value === undefined) return undefined;
  const record = (typeof value === 'object' && value !== null ? value : {}) as Partial<IntentRecord>;
  if (
    record.format !== FORMAT ||
    record.opId !== opId ||
    !Number.isSafeInteger(record.epoch) ||
    !('intent' in record)
  ) {
    throw new LifeboatError(
      'host.record-damaged',
      `${path} is not the intent of operation ${opId} in format ${FORMAT}`,
      {
        context: { path, opId },
      },
    );
  }
  return record as IntentRecord;
}

/** Whether nothing but the beginnings of an intent is there: an attempt that died before it had begun. */
export async function isBarren(directory: string): Promise<boolean> {
  return (await readdir(directory)).every((name) => name === LOCK || name.endsWith(TEMPORARY_SUFFIX));
}

/**
 * Removes the directory; the caller holds its lock. The intent goes last but for the lock, so that killed in between
 * the rest is still known for what it is.
 * Errors: `host.cleanup-failed` while anything is mounted beneath: removing through a mount would empty somebody's disk.
 */
export async function removeOperationDirectory(directory: string): Promise<void> {
  const mounts = await mountsBeneath(directory);
  if (mounts.length > 0) {
    throw new LifeboatError(
      'host.cleanup-failed',
      `${directory} is not removed: ${mounts.map((mount) => mount.path).join(', ')} still mounted`,
      { context: { directory } },
    );
  }
  for (const name of await readdir(directory)) {
    if (name !== INTENT && name !== LOCK) await rm(join(directory, name), { recursive: true, force: true });
  }
  await syncDirectory(directory);
  await removeIfThere(intentPath(directory));
  await removeIfThere(lockPath(directory));
  try {
    await rmdir(directory);
  } catch (error) {
    // A new attempt wrote its intent since the lock file went; the directory is its now.
    if (systemCode(error) !== 'ENOTEMPTY' && systemCode(error) !== 'ENOENT') throw error;
  }
}

export async function makeDirectory(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}
