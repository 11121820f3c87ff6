/**
 * Writes the journal of what overlays hold against the disks below them.
 *
 * `qemu-img map` says which runs the overlay has; each is read from the changed disk and from the unchanged one, in
 * pieces; pieces that are equal are no change. Both contents are fsynced before the journal is sealed.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage, type ImageFile } from '@lifeboat/host/disk-image-server';
import { syncDirectory } from '@lifeboat/host/durable-file';
import type { FileEdit } from '../access/guest-tree.ts';
import type { OverlayChanges } from '../access/open-guest.ts';
import {
  newBytesPath,
  oldBytesPath,
  sealJournal,
  type Journal,
  type JournalDisk,
  type JournalRun,
} from './journal-file.ts';

const PIECE_BYTES = MiB;
const MAP_TIMEOUT_MS = 120_000;
const MAX_MAP_BYTES = 64 * MiB;
/** An edit of a few initrds changes some 100 MB; far more means that something else wrote. */
const MAX_JOURNAL_BYTES = 4096 * MiB;

export interface RecordOptions {
  /** The journal's own directory. */
  readonly directory: string;
  /** For serving the unchanged disks. */
  readonly workDirectory: string;
  readonly edits: readonly FileEdit[];
  readonly result: unknown;
  readonly signal: AbortSignal;
}

/** Errors: `guest.journal-too-big`, `disk.full`, those of the host room. */
export async function recordChanges(overlays: readonly OverlayChanges[], options: RecordOptions): Promise<Journal> {
  const { directory, signal } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const disks: JournalDisk[] = [];
  const files = await Promise.all(
    [oldBytesPath(directory), newBytesPath(directory)].map((path) => open(path, 'w', 0o600)),
  );
  try {
    const [oldFile, newFile] = files.map((file) => new ByteStore(file, directory)) as [ByteStore, ByteStore];
    for (const overlay of overlays) {
      const { image, name } = overlay.disk;
      if (!('path' in image))
        throw new LifeboatError('internal.bug', `the disk ${name} is an export and cannot be edited`);
      const runs = await recordDisk(overlay, image, { oldFile, newFile, workDirectory: options.workDirectory, signal });
      if (runs.length > 0) disks.push({ name, image, sizeBytes: overlay.sizeBytes, runs });
    }
    for (const file of files) await file.sync();
  } finally {
    for (const file of files) await file.close();
  }
  await syncDirectory(directory);
  const journal: Journal = { formatVersion: 1, edits: options.edits, disks, result: options.result };
  signal.throwIfAborted();
  await sealJournal(directory, journal);
  return journal;
}

async function recordDisk(
  overlay: OverlayChanges,
  image: ImageFile,
  to: { oldFile: ByteStore; newFile: ByteStore; workDirectory: string; signal: AbortSignal },
): Promise<JournalRun[]> {
  const { signal } = to;
  const allocated = await allocatedRuns(overlay, signal);
  if (allocated.length === 0) return [];
  const server = await serveDiskImage(
    {
      image: { kind: 'image', ...image, readOnly: true },
      fuse: { writable: false },
      directory: to.workDirectory,
      name: `${overlay.disk.name}-old`,
    },
    { signal },
  );
  try {
    const before = await openFileDevice(server.fusePath as string);
    const after = await openFileDevice(overlay.changedPath);
    try {
      const runs: JournalRun[] = [];
      for (const run of allocated) {
        for (let at = run.start; at < run.end; at += PIECE_BYTES) {
          const piece = { offsetBytes: at, lengthBytes: Math.min(PIECE_BYTES, run.end - at) };
          const [oldBytes, newBytes] = await Promise.all([
            readPiece(before, piece, signal),
            readPiece(after, piece, signal),
          ]);
          if (oldBytes.equals(newBytes)) continue;
          const oldAt = await to.oldFile.add(oldBytes);
          const newAt = await to.newFile.add(newBytes);
          runs.push({
            ...piece,
            oldSha256: sha256(oldBytes),
            newSha256: sha256(newBytes),
            ...(oldAt === undefined ? {} : { oldAt }),
            ...(newAt === undefined ? {} : { newAt }),
          });
        }
      }
      return runs;
    } finally {
      await before.close();
      await after.close();
    }
  } finally {
    await server.stop();
  }
}

/** The overlay is open in its server, flushed and at rest; -U reads it all the same. */
async function allocatedRuns(overlay: OverlayChanges, signal: AbortSignal): Promise<{ start: number; end: number }[]> {
  const args = ['map', '-U', '--output=json', '-f', 'qcow2', '--', overlay.overlayPath];
  const { stdout } = await runTool('qemu-img', args, {
    timeoutMs: MAP_TIMEOUT_MS,
    maxOutputBytes: MAX_MAP_BYTES,
    signal,
  });
  const extents = JSON.parse(stdout) as { start: number; length: number; depth: number; present?: boolean }[];
  const runs: { start: number; end: number }[] = [];
  for (const { start, length, depth, present } of extents) {
    if (depth !== 0 || present === false) continue;
    const last = runs.at(-1);
    if (last?.end === start) last.end = start + length;
    else runs.push({ start, end: start + length });
  }
  return runs;
}

async function readPiece(
  device: BlockDevice,
  piece: { offsetBytes: number; lengthBytes: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(piece.lengthBytes);
  await device.read(piece.offsetBytes, bytes, { signal });
  return bytes;
}

/** Appends contents to one file; zeros are not stored. */
class ByteStore {
  readonly #file: FileHandle;
  readonly #directory: string;
  #length = 0;

  constructor(file: FileHandle, directory: string) {
    this.#file = file;
    this.#directory = directory;
  }

  async add(bytes: Buffer): Promise<number | undefined> {
    if (isZero(bytes)) return undefined;
    const at = this.#length;
    if (at + bytes.length > MAX_JOURNAL_BYTES) {
      throw new LifeboatError(
        'guest.journal-too-big',
        `The journal in ${this.#directory} would exceed ${MAX_JOURNAL_BYTES} bytes`,
        {
          context: { directory: this.#directory },
        },
      );
    }
    try {
      await this.#file.appendFile(bytes);
    } catch (cause) {
      if (systemCode(cause) !== 'ENOSPC') throw cause;
      throw new LifeboatError('disk.full', `There is no space left for the journal in ${this.#directory}`, { cause });
    }
    this.#length += bytes.length;
    return at;
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes[0] === 0 && bytes.subarray(1).equals(bytes.subarray(0, -1));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
