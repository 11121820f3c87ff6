/**
 * One disk of a capture: extents in, map root out.
 *
 *   allocation (base:allocation) ─┐
 *   dirty bitmap ─────────────────┼─► writeDisk: touched chunks read whole, the rest taken over from the parent
 *   parent's root ────────────────┘        │
 *                                          ▼
 *   audit: a sample of what the bitmap calls unchanged, read and compared with the parent's chunk ids;
 *   one mismatch ─► the bitmap is not believed: everything is read and compared
 *
 * A parent whose map cannot be read is no parent: the disk is read in full, and its chunks are found again by their ids.
 */
import type { Extent } from '@lifeboat/foundation/block-device';
import { hasCode } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { Random } from '@lifeboat/foundation/random';
import type { BackupDisk } from '@lifeboat/hypervisor/port';
import { NbdClient } from '@lifeboat/nbd/client';
import type { DiskRoot } from '@lifeboat/repository/format/point';
import type { ByteRange } from '@lifeboat/repository/store/object-store';
import type { WriterSession } from '@lifeboat/repository/write/session';
import type { SourceSpec } from '@lifeboat/repository/write/source';
import type { CapturedDisk } from '../verbs.ts';
import { selectAudit, type ChunkRun } from './audit.ts';
import { nbdSourceModule } from './nbd-source.ts';
import type { ParentDisk } from './parent.ts';

/** Bit 0 of a QEMU dirty bitmap context. Source: QEMU docs/interop/nbd.txt. */
const DIRTY = 1;

export interface DiskCapture {
  readonly disk: CapturedDisk;
  readonly root: DiskRoot;
  readonly nextSweepChunk: number;
}

interface CaptureDeps {
  readonly random: Random;
  readonly log: Log;
  readonly chunkSizeBytes: number;
}

interface DiskInput {
  readonly exported: BackupDisk;
  readonly parent?: ParentDisk;
  readonly session: WriterSession;
}

export async function captureDisk(deps: CaptureDeps, input: DiskInput, context: VerbContext): Promise<DiskCapture> {
  const { parent, ...rest } = input;
  if (!parent) return capture(deps, rest, context);
  const before = input.session.transferred;
  try {
    return await capture(deps, input, context);
  } catch (error) {
    if (!hasCode(error, 'repository.map-damaged')) throw error;
    const reason = `the map of the recovery point before is damaged: ${error.message}`;
    deps.log.warn(reason, { disk: rest.exported.name });
    const { disk, ...captured } = await capture(deps, rest, context);
    // What the first attempt read and stored was read and stored, too.
    const { sourceBytes, storedBytes } = input.session.transferred;
    const bytes = { readBytes: sourceBytes - before.sourceBytes, storedBytes: storedBytes - before.storedBytes };
    return { ...captured, disk: { ...disk, ...bytes, reason } };
  }
}

async function capture(deps: CaptureDeps, input: DiskInput, context: VerbContext): Promise<DiskCapture> {
  const { exported, parent, session } = input;
  const { chunkSizeBytes } = deps;
  const { name, sizeBytes, socketPath, exportName, dirtyContext } = exported;
  const source: SourceSpec = { module: nbdSourceModule, options: { socketPath, exportName } };
  const { allocation, dirty } = await readMaps(exported, context.signal);
  const incremental = parent !== undefined && parent.doubt === '' && dirty !== undefined;
  const base = { name, sizeBytes, source, allocation, ...(parent ? { parent: parent.root } : {}) };

  const changed = incremental ? dirty : allocation.filter(({ kind }) => kind === 'data');

  let written = await session.writeDisk({ ...base, changed: incremental ? dirty : 'all' }, context);
  const captured: CapturedDisk = {
    name,
    sizeBytes,
    method: incremental ? 'incremental' : parent ? 'comparison' : 'full',
    reason: incremental
      ? ''
      : parent
        ? parent.doubt || 'the export offers no dirty bitmap'
        : 'first recovery point of this disk',
    readBytes: written.stats.sourceBytes,
    changedBytes: sum(changed),
    touchedBytes: bytesOfChunks(changed, { sizeBytes, chunkSizeBytes }),
    storedBytes: written.stats.storedBytes,
    auditedChunks: 0,
    auditedBytes: 0,
  };
  if (!incremental) return { disk: captured, root: written.root, nextSweepChunk: parent?.sweepFromChunk ?? 0 };

  const sample = await selectAudit({
    unchanged: unchangedRuns({ dirty, allocation, chunkSizeBytes }),
    mapRuns: (run) => session.mapRuns(parent.root, run, { signal: context.signal }),
    sweepFromChunk: parent.sweepFromChunk,
    random: deps.random,
  });
  const audit = await session.compare({ parent: parent.root, source, chunkIndexes: sample.chunkIndexes }, context);
  const audited: CapturedDisk = {
    ...captured,
    readBytes: captured.readBytes + audit.sourceBytes,
    auditedChunks: sample.chunkIndexes.length,
    auditedBytes: audit.readBytes,
  };
  const [lie] = audit.mismatches;
  if (lie === undefined) return { disk: audited, root: written.root, nextSweepChunk: sample.nextSweepChunk };

  const reason = `change tracking missed a write: ${audit.mismatches.length} of ${sample.chunkIndexes.length} audited chunks differ, the first at byte ${lie * chunkSizeBytes}`;
  deps.log.warn(reason, { disk: name, ...(dirtyContext ? { dirtyContext } : {}) });
  written = await session.writeDisk({ ...base, changed: 'all' }, context);
  return {
    disk: {
      ...audited,
      method: 'comparison',
      reason,
      readBytes: audited.readBytes + written.stats.sourceBytes,
      storedBytes: audited.storedBytes + written.stats.storedBytes,
    },
    root: written.root,
    nextSweepChunk: sample.nextSweepChunk,
  };
}

async function readMaps(
  exported: BackupDisk,
  signal: AbortSignal,
): Promise<{ allocation: Extent[]; dirty: ByteRange[] | undefined }> {
  const { socketPath, exportName, dirtyContext, sizeBytes } = exported;
  const metaContexts = ['base:allocation', ...(dirtyContext ? [dirtyContext] : [])];
  const client = await NbdClient.connect({ socketPath, exportName }, { metaContexts, signal });
  try {
    const whole = { offsetBytes: 0, lengthBytes: sizeBytes };
    const allocation = await client.extents(whole, { signal });
    if (!dirtyContext) return { allocation, dirty: undefined };
    const runs = await client.blockStatus(dirtyContext, whole, { signal });
    return { allocation, dirty: runs.filter(({ flags }) => (flags & DIRTY) !== 0) };
  } finally {
    await client.close();
  }
}

/**
 * Chunks the bitmap calls unchanged and that are wholly allocated now. Freed blocks change without a write, so a chunk
 * with a hole in it proves nothing. All inputs ascending, and so is what comes back.
 */
export function unchangedRuns(disk: {
  dirty: readonly ByteRange[];
  allocation: readonly Extent[];
  chunkSizeBytes: number;
}): ChunkRun[] {
  const { dirty, allocation, chunkSizeBytes } = disk;
  const runs: ChunkRun[] = [];
  let d = 0;
  for (const { offsetBytes, lengthBytes } of merge(allocation.filter(({ kind }) => kind === 'data'))) {
    let chunk = Math.ceil(offsetBytes / chunkSizeBytes);
    const end = Math.floor((offsetBytes + lengthBytes) / chunkSizeBytes);
    while (chunk < end) {
      const write = dirty[d];
      const writtenFrom = write ? Math.floor(write.offsetBytes / chunkSizeBytes) : end;
      const count = Math.min(writtenFrom, end) - chunk;
      if (count > 0) runs.push({ firstChunk: chunk, count });
      if (!write || writtenFrom >= end) break;
      chunk = Math.max(chunk, Math.ceil((write.offsetBytes + write.lengthBytes) / chunkSizeBytes));
      // One that reaches beyond this extent touches the next one as well.
      if (chunk < end) d++;
    }
  }
  return runs;
}

/** Bytes of the whole chunks that any of the ranges touches. Ascending, without overlap. */
export function bytesOfChunks(
  ranges: readonly ByteRange[],
  { sizeBytes, chunkSizeBytes }: { sizeBytes: number; chunkSizeBytes: number },
): number {
  let total = 0;
  let counted = 0;
  for (const { offsetBytes, lengthBytes } of ranges) {
    if (lengthBytes === 0) continue;
    const first = Math.max(counted, Math.floor(offsetBytes / chunkSizeBytes));
    const end = Math.ceil((offsetBytes + lengthBytes) / chunkSizeBytes);
    if (end <= first) continue;
    total += Math.min(end * chunkSizeBytes, sizeBytes) - first * chunkSizeBytes;
    counted = end;
  }
  return total;
}

function merge(ranges: readonly ByteRange[]): ByteRange[] {
  const merged: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const { offsetBytes, lengthBytes } of ranges) {
    const last = merged.at(-1);
    if (last && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes;
    else merged.push({ offsetBytes, lengthBytes });
  }
  return merged;
}

function sum(ranges: readonly ByteRange[]): number {
  return ranges.reduce((total, { lengthBytes }) => total + lengthBytes, 0);
}
