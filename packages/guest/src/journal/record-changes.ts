/**
 * Writes the journal of what overlays hold against the disks below them.
 *
 * `qemu-img map` says which runs the overlay has, and for one of a composed volume the volume says where on the disks they lie. Each
 * is read from the changed disk or volume and from the unchanged disk, in pieces; pieces that are equal are no change. Both contents
 * are fsynced before the journal is sealed.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { Run } from '@lifeboat/disk/mapped-device';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage, type ImageFile } from '@lifeboat/host/disk-image-server';
import { syncDirectory } from '@lifeboat/host/durable-file';
import type { FileEdit } from '../access/guest-tree.ts';
import type { GuestChanges, OverlayChanges } from '../access/open-guest.ts';
import { changedRunsOf, type ChangedRun, type OpenedOverlay } from './changed-runs.ts';
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
export async function recordChanges(changes: GuestChanges, options: RecordOptions): Promise<Journal> {
  const { directory, signal } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const disks: JournalDisk[] = [];
  const files = await Promise.all(
    [oldBytesPath(directory), newBytesPath(directory)].map((path) => open(path, 'w', 0o600)),
  );
  try {
    const [oldFile, newFile] = files.map((file) => new ByteStore(file, directory)) as [ByteStore, ByteStore];
    const opened: OpenedOverlay[] = [];
    for (const overlay of [...changes.disks, ...changes.volumes]) {
      opened.push({ ...overlay, allocated: await allocatedRuns(overlay, signal) });
    }
    for (const { disk, sizeBytes } of changes.disks) {
      const { image, name } = disk;
      if (!('path' in image))
        throw new LifeboatError('internal.bug', `the disk ${name} is an export and cannot be edited`);
      const changed = changedRunsOf(name, opened);
      if (changed.length === 0) continue;
      const place = { name, image, workDirectory: options.workDirectory, signal };
      const runs = await recordDisk(changed, place, { oldFile, newFile });
      if (runs.length > 0) disks.push({ name, image, sizeBytes, runs });
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
  changed: readonly ChangedRun[],
  disk: { name: string; image: ImageFile; workDirectory: string; signal: AbortSignal },
  to: { oldFile: ByteStore; newFile: ByteStore },
): Promise<JournalRun[]> {
  const { name, image, workDirectory, signal } = disk;
  const server = await serveDiskImage(
    {
      image: { kind: 'image', ...image, readOnly: true },
      fuse: { writable: false },
      directory: workDirectory,
      name: `${name}-old`,
    },
    { signal },
  );
  const sources = new Map<string, BlockDevice>();
  try {
    const before = await openFileDevice(server.fusePath as string);
    sources.set('', before);
    const runs: JournalRun[] = [];
    for (const run of changed) {
      const after = sources.get(run.changedPath) ?? (await openFileDevice(run.changedPath));
      sources.set(run.changedPath, after);
      for (let done = 0; done < run.lengthBytes; done += PIECE_BYTES) {
        const lengthBytes = Math.min(PIECE_BYTES, run.lengthBytes - done);
        const piece = { offsetBytes: run.offsetBytes + done, lengthBytes };
        const [oldBytes, newBytes] = await Promise.all([
          readPiece(before, piece, signal),
          readPiece(after, { offsetBytes: run.changedOffsetBytes + done, lengthBytes }, signal),
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
    for (const device of sources.values()) await device.close();
    await server.stop();
  }
}

/** The overlay is open in its server, flushed and at rest; -U reads it all the same. */
async function allocatedRuns(overlay: OverlayChanges, signal: AbortSignal): Promise<Run[]> {
  const args = ['map', '-U', '--output=json', '-f', 'qcow2', '--', overlay.overlayPath];
  const { stdout } = await runTool('qemu-img', args, {
    timeoutMs: MAP_TIMEOUT_MS,
    maxOutputBytes: MAX_MAP_BYTES,
    signal,
  });
  const extents = JSON.parse(stdout) as { start: number; length: number; depth: number; present?: boolean }[];
  const runs: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const { start, length, depth, present } of extents) {
    if (depth !== 0 || present === false) continue;
    const last = runs.at(-1);
    if (last && last.offsetBytes + last.lengthBytes === start) last.lengthBytes += length;
    else runs.push({ offsetBytes: start, lengthBytes: length });
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
