/**
 * Carries a complete journal out, forwards or backwards.
 *
 * forwards   (writing)    write the new bytes ─ fsync ─ read back ─► applied
 * backwards  (applied)    check that the disks hold the new bytes ─► reverting ─ write the old ─ fsync ─ read back ─► reverted
 *
 * Both write absolute content to absolute places, so killed in the middle they are simply run again. Nobody else may
 * have the disks open: QEMU's image lock refuses a second writer.
 */
import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { ProgressSink } from '@lifeboat/foundation/progress';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { removeIfThere } from '@lifeboat/host/durable-file';
import {
  newBytesPath,
  oldBytesPath,
  readJournal,
  writeState,
  type Journal,
  type JournalDisk,
  type JournalRun,
} from './journal-file.ts';

export interface ApplyOptions {
  /** The journal's own directory. */
  readonly directory: string;
  /** For serving the disks. */
  readonly workDirectory: string;
  readonly signal: AbortSignal;
  readonly progress?: ProgressSink;
}

export interface RevertOptions extends ApplyOptions {
  /** Writes the old bytes also over what somebody else wrote since. Default: that is refused. */
  readonly overwriteChanged?: boolean;
}

/** A part of an edited range that holds something else than the edit wrote. */
export interface ChangedRange {
  readonly disk: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

type Side = 'old' | 'new';

/** More are counted, not named. */
const MAX_NAMED_RANGES = 10;

/**
 * Finishes the edit: afterwards the disks hold the new bytes, durably. Does nothing if that is so already.
 * Errors: `guest.journal-missing`, `guest.journal-damaged`, `guest.journal-mismatch`, those of the host room.
 */
export async function applyJournal(options: ApplyOptions): Promise<Journal> {
  const { journal, state } = await load(options.directory);
  if (state === 'applied') return journal;
  if (state !== 'writing') {
    throw new LifeboatError(
      'guest.journal-mismatch',
      `The journal in ${options.directory} is ${state}; it cannot be applied again`,
      {
        context: { directory: options.directory, state },
      },
    );
  }
  await writeSide(journal, 'new', options);
  await writeState(options.directory, 'applied');
  await removeIfThere(newBytesPath(options.directory));
  return journal;
}

/**
 * Takes the edit back: afterwards the edited places of the disks hold exactly what they held before it, durably; all other places hold what
 * they hold now. Also after a crash in the middle of the edit or of an earlier revert; does nothing if all is reverted.
 * Errors: as for `applyJournal`; `guest.journal-changed-since` with the places, if edited places were written to since (a machine ran from the
 * disk) and `overwriteChanged` is not set: nothing was changed then.
 */
export async function revertJournal(options: RevertOptions): Promise<Journal> {
  const { journal, state } = await load(options.directory);
  if (state === 'reverted') return journal;
  // In the other two states the disks hold a mixture of both sides by our own doing.
  if (state === 'applied' && !options.overwriteChanged) {
    const changed = await changedRanges(journal, options);
    if (changed.length > 0) throw changedSince(options.directory, changed);
  }
  await writeState(options.directory, 'reverting');
  await writeSide(journal, 'old', options);
  await writeState(options.directory, 'reverted');
  return journal;
}

/** The edited places that do not hold what the edit wrote. Errors: `guest.journal-mismatch` for a disk of another size. */
async function changedRanges(journal: Journal, options: ApplyOptions): Promise<ChangedRange[]> {
  const changed: { disk: string; offsetBytes: number; lengthBytes: number }[] = [];
  await eachDisk(journal, 'r', options, async ({ name, runs }, device) => {
    for (const { offsetBytes, lengthBytes, newSha256 } of runs) {
      options.signal.throwIfAborted();
      const bytes = Buffer.allocUnsafe(lengthBytes);
      await device.read(offsetBytes, bytes, { signal: options.signal });
      if (sha256(bytes) === newSha256) continue;
      const last = changed.at(-1);
      if (last?.disk === name && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes;
      else changed.push({ disk: name, offsetBytes, lengthBytes });
    }
  });
  return changed;
}

function changedSince(directory: string, changed: readonly ChangedRange[]): LifeboatError {
  const named = changed
    .slice(0, MAX_NAMED_RANGES)
    .map(({ disk, offsetBytes, lengthBytes }) => `${disk}: ${lengthBytes} bytes at ${offsetBytes}`);
  const more = changed.length - named.length;
  return new LifeboatError(
    'guest.journal-changed-since',
    `${changed.length} of the places that the edit of ${directory} wrote to hold something else now: ${named.join('; ')}${more > 0 ? `; and ${more} more` : ''}`,
    { context: { directory, places: changed.length } },
  );
}

async function load(directory: string): Promise<NonNullable<Awaited<ReturnType<typeof readJournal>>>> {
  const found = await readJournal(directory);
  if (found !== undefined) return found;
  throw new LifeboatError('guest.journal-missing', `There is no complete journal in ${directory}`, {
    context: { directory },
  });
}

async function writeSide(journal: Journal, side: Side, options: ApplyOptions): Promise<void> {
  const { directory, signal, progress } = options;
  const totalBytes = journal.disks.flatMap((disk) => disk.runs).reduce((sum, run) => sum + run.lengthBytes, 0);
  let doneBytes = 0;
  const store = await open(side === 'old' ? oldBytesPath(directory) : newBytesPath(directory), 'r');
  try {
    await eachDisk(journal, 'rw', options, async (disk, device) => {
      for (const run of disk.runs) {
        signal.throwIfAborted();
        await device.write(run.offsetBytes, await contentOf(store, run, side, directory));
        doneBytes += run.lengthBytes;
        progress?.({ phase: side === 'new' ? 'edit' : 'revert', doneBytes, totalBytes, detail: disk.name });
      }
      await device.flush();
      await expectSide(disk, device, side, signal);
    });
  } finally {
    await store.close();
  }
}

async function eachDisk(
  journal: Journal,
  access: 'r' | 'rw',
  options: ApplyOptions,
  work: (disk: JournalDisk, device: WritableBlockDevice) => Promise<void>,
): Promise<void> {
  const writable = access === 'rw';
  for (const disk of journal.disks) {
    const server = await serveDiskImage(
      {
        image: { kind: 'image', ...disk.image, readOnly: !writable },
        fuse: { writable },
        directory: options.workDirectory,
        name: `${disk.name}-${writable ? 'edit' : 'check'}`,
      },
      { signal: options.signal },
    );
    try {
      const device = await openFileDevice(server.fusePath as string, { writable });
      try {
        if (device.sizeBytes !== disk.sizeBytes) {
          throw mismatch(disk, `has ${device.sizeBytes} bytes; the journal was written for ${disk.sizeBytes}`);
        }
        await work(disk, device);
      } finally {
        await device.close();
      }
    } finally {
      await server.stop();
    }
  }
}

async function contentOf(store: FileHandle, run: JournalRun, side: Side, directory: string): Promise<Buffer> {
  const at = side === 'old' ? run.oldAt : run.newAt;
  const bytes = Buffer.alloc(run.lengthBytes);
  if (at !== undefined) await store.read(bytes, 0, run.lengthBytes, at);
  if (sha256(bytes) !== hashOf(run, side)) {
    throw new LifeboatError(
      'guest.journal-damaged',
      `${directory}: the ${side} bytes for offset ${run.offsetBytes} do not match their checksum`,
      {
        context: { directory, offsetBytes: run.offsetBytes },
      },
    );
  }
  return bytes;
}

async function expectSide(
  disk: JournalDisk,
  device: WritableBlockDevice,
  side: Side,
  signal: AbortSignal,
): Promise<void> {
  for (const run of disk.runs) {
    const bytes = Buffer.allocUnsafe(run.lengthBytes);
    await device.read(run.offsetBytes, bytes, { signal });
    const found = sha256(bytes);
    if (found !== hashOf(run, side)) {
      throw mismatch(
        disk,
        `holds ${found.slice(0, 12)} at offset ${run.offsetBytes}; the journal says ${hashOf(run, side).slice(0, 12)}`,
      );
    }
  }
}

function mismatch(disk: JournalDisk, problem: string): LifeboatError {
  return new LifeboatError('guest.journal-mismatch', `The disk ${disk.name} (${disk.image.path}) ${problem}`, {
    context: { disk: disk.name, path: disk.image.path },
  });
}

function hashOf(run: JournalRun, side: Side): string {
  return side === 'old' ? run.oldSha256 : run.newSha256;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
