/**
 * Takes away what killed operations left on this host, and nothing else.
 *
 *   remove  =  tagged  and  unlocked  and  not in the live set of a newer epoch
 *
 * tagged    it lies in ops/<opId>, or carries the operation's tag together with this host's id;
 * unlocked  the reaper itself takes the operation's lock and holds it while it removes, so no attempt can begin meanwhile;
 * live set  the host entity knows which operations are in flight, also those between two attempts, when nobody holds
 *           the lock. Its list counts only if its epoch is newer than the one the operation was handed out in, and not
 *           older than one this host has seen: an old list does not name what began since.
 *
 * Order, per operation: tagged items (a guest first, then what it runs from), exports, children, mounts and loop
 * devices, what the operation left half made outside its directory (`undo`), the directory. An item that fails keeps the
 * directory, so that the next round still knows of it: the journal of a half-made edit lies in there.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, hasCode, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { parseOpId, type HostId, type OpId } from '@lifeboat/foundation/ids';
import { readRecord, writeDurably } from './durable-file.ts';
import { reapableExports } from './exports.ts';
import { assertLocked, takeLock } from './file-lock.ts';
import { clearLeftovers } from './leftovers.ts';
import {
  isBarren,
  lockPath,
  operationDirectory,
  opsDirectory,
  readIntent,
  removeOperationDirectory,
  type IntentRecord,
} from './operation-directory.ts';
import type { Reapable, ReapableItem } from './reapable.ts';

/** Another round on this host; it takes seconds, or minutes if a mount hangs. */
const OTHER_ROUND_WAIT_MS = 10_000;

export interface ReapOptions {
  readonly stateRoot: string;
  readonly hostId: HostId;
  readonly reapables: readonly Reapable[];
  /** Operations in flight on this host, as of `epoch`. */
  readonly liveOps: ReadonlySet<OpId>;
  /** Grows with every change of the live set. */
  readonly epoch: number;
  /** Unix ms; noted beside the epoch. */
  readonly now: number;
  /**
   * Takes back what the operation left half made outside its directory, before the directory goes; under its lock, and
   * with nothing of it running any more. Idempotent. If it rejects, the directory stays for the next round.
   */
  readonly undo: (operation: DeadOperation) => Promise<void>;
}

/** An operation that nobody runs and nobody will. */
export interface DeadOperation {
  readonly opId: OpId;
  readonly directory: string;
  /** As it was declared. */
  readonly intent: unknown;
}

export interface ReapEntry {
  /** `operation` for a directory; `child`, `loop`, `mount`; else the kind of a tagged item. */
  readonly kind: string;
  readonly name: string;
  /** Absent if no operation could be told. */
  readonly opId?: OpId;
  /** `failed`: should have gone, is still there, and is tried again by the next round. */
  readonly outcome: 'removed' | 'kept' | 'failed';
  readonly reason: string;
}

/**
 * One round. One failure does not stop the others; all are in the report.
 * Errors: `host.stale-epoch`, `host.operation-busy` if another round does not end.
 */
export async function reap(options: ReapOptions): Promise<ReapEntry[]> {
  const { stateRoot, hostId } = options;
  const lock = await takeLock(join(stateRoot, 'reaper.lock'), { waitMs: OTHER_ROUND_WAIT_MS });
  assertLocked(lock, 'the clean-up of this host', OTHER_ROUND_WAIT_MS);
  try {
    await acceptEpoch(options);
    const report: ReapEntry[] = [];
    const sources = [...options.reapables, reapableExports(stateRoot, hostId)];
    const { items, complete } = await listItems(sources, hostId, report);
    const opIds = await operationsOnDisk(stateRoot, report);
    for (const { item } of items) opIds.add(item.opId);
    for (const opId of [...opIds].sort()) {
      const own = items.filter(({ item }) => item.opId === opId);
      try {
        await reapOperation(options, { opId, items: own, complete }, report);
      } catch (error) {
        report.push({ kind: 'operation', name: opId, opId, outcome: 'failed', reason: messageOf(error) });
      }
    }
    return report;
  } finally {
    await lock.release();
  }
}

interface Found {
  readonly item: ReapableItem;
  readonly source: Reapable;
}

async function acceptEpoch({ stateRoot, epoch, now }: ReapOptions): Promise<void> {
  const path = join(stateRoot, 'reaper-epoch.json');
  const seen = ((await readRecord(path)) as { epoch?: unknown } | null | undefined)?.epoch ?? 0;
  if (typeof seen !== 'number')
    throw new LifeboatError('host.record-damaged', `${path} holds no epoch`, { context: { path } });
  if (epoch < seen) {
    throw new LifeboatError('host.stale-epoch', `The live set is of epoch ${epoch}; this host has seen epoch ${seen}`, {
      context: { epoch, seen },
    });
  }
  await writeDurably(path, JSON.stringify({ epoch, atMs: now }));
}

/** `complete` is false if a source could not be asked: what it would have named may still use a directory. */
async function listItems(
  sources: readonly Reapable[],
  hostId: HostId,
  report: ReapEntry[],
): Promise<{ items: Found[]; complete: boolean }> {
  const items: Found[] = [];
  let complete = true;
  for (const source of sources) {
    try {
      for (const item of await source.list()) {
        if (item.hostId === hostId) items.push({ item, source });
      }
    } catch (error) {
      complete = false;
      report.push({ kind: 'list', name: 'tagged items', outcome: 'failed', reason: messageOf(error) });
    }
  }
  return { items, complete };
}

async function operationsOnDisk(stateRoot: string, report: ReapEntry[]): Promise<Set<OpId>> {
  const found = new Set<OpId>();
  for (const name of await readdir(opsDirectory(stateRoot))) {
    try {
      found.add(parseOpId(name));
    } catch (error) {
      if (!hasCode(error, 'input.invalid')) throw error;
      report.push({ kind: 'operation', name, outcome: 'kept', reason: 'its name is not an operation id' });
    }
  }
  return found;
}

async function reapOperation(
  options: ReapOptions,
  { opId, items, complete }: { opId: OpId; items: readonly Found[]; complete: boolean },
  report: ReapEntry[],
): Promise<void> {
  const keep = (reason: string): void => {
    report.push({ kind: 'operation', name: opId, opId, outcome: 'kept', reason });
  };
  if (options.liveOps.has(opId)) return keep(`in the live set of epoch ${options.epoch}`);
  const directory = operationDirectory(options.stateRoot, opId);
  const lock = await lockIfThere(directory);
  if (lock === 'no directory') return void (await removeItems(items, report));
  if (lock === 'held') return keep('an attempt at it runs');
  try {
    const { reason, intent } = await judge(directory, opId, options.epoch);
    if (reason !== undefined) return keep(reason);
    const removed = (await removeItems(items, report)) && (await removeLeftovers(directory, opId, report));
    if (!complete) return keep('not everything that may use it could be listed');
    if (!removed) return keep('something of it could not be removed');
    // Without an intent it made nothing.
    if (intent) await options.undo({ opId, directory, intent: intent.intent });
    await removeOperationDirectory(directory);
    report.push({
      kind: 'operation',
      name: opId,
      opId,
      outcome: 'removed',
      reason: 'nobody runs it, and it is not live',
    });
  } finally {
    await lock.release();
  }
}

async function lockIfThere(directory: string) {
  try {
    return (await takeLock(lockPath(directory), { waitMs: 0 })) ?? 'held';
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 'no directory';
    throw error;
  }
}

/** Why the directory is kept, if it is. */
async function judge(
  directory: string,
  opId: OpId,
  epoch: number,
): Promise<{ readonly reason?: string; readonly intent?: IntentRecord }> {
  try {
    const intent = await readIntent(directory, opId);
    if (intent === undefined)
      return (await isBarren(directory)) ? {} : { reason: 'it has no intent, but other contents' };
    if (intent.epoch >= epoch)
      return { reason: `handed out in epoch ${intent.epoch}, the live set is of epoch ${epoch}` };
    return { intent };
  } catch (error) {
    if (hasCode(error, 'host.record-damaged')) return { reason: error.message };
    throw error;
  }
}

async function removeItems(items: readonly Found[], report: ReapEntry[]): Promise<boolean> {
  let all = true;
  for (const { item, source } of items) {
    const { kind, name, opId } = item;
    try {
      await source.remove(item);
      report.push({ kind, name, opId, outcome: 'removed', reason: 'its operation is over' });
    } catch (error) {
      all = false;
      report.push({ kind, name, opId, outcome: 'failed', reason: messageOf(error) });
    }
  }
  return all;
}

async function removeLeftovers(directory: string, opId: OpId, report: ReapEntry[]): Promise<boolean> {
  const leftovers = await clearLeftovers(directory);
  for (const { kind, name, gone, detail } of leftovers) {
    report.push({ kind, name, opId, outcome: gone ? 'removed' : 'failed', reason: detail });
  }
  return leftovers.every(({ gone }) => gone);
}
