/**
 * What the files held that an edit changes, so that they can be put back through the filesystem once a machine has run from the disks and
 * the blocks are no longer what the edit wrote.
 *
 * Kept is only what the new file does not hold at the same place: of an initrd to which something was appended, its old length.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { KiB } from '@lifeboat/foundation/units';

/** A block of most filesystems: what a write changes at least. */
const PIECE_BYTES = 4 * KiB;
/** The file descriptor of `old` or `now` that there is none of. */
const NOTHING = { read: async (): Promise<{ bytesRead: number }> => ({ bytesRead: 0 }) };

export interface OriginalFile {
  /** False: the edit made the file, and the way back removes it. */
  readonly existed: boolean;
  readonly sizeBytes: number;
  /** Permissions and owner; meant for files that the edit removed. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Where the old content is not that of the new file, by offset. */
  readonly pieces: readonly { readonly offsetBytes: number; readonly lengthBytes: number; readonly storedAt: number }[];
}

/** The contents, in one file beside the journal. */
export class OriginalFiles {
  readonly #file: FileHandle;
  readonly #path: string;
  #length = 0;

  static async create(path: string): Promise<OriginalFiles> {
    return new OriginalFiles(await open(path, 'w', 0o600), path);
  }

  private constructor(file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /** `old` and `now` are open for reading; `now` is absent where the edit removed the file. Errors: `disk.full`. */
  async keep(old: FileHandle | undefined, now: FileHandle | undefined): Promise<OriginalFile> {
    if (old === undefined) return { existed: false, sizeBytes: 0, mode: 0, uid: 0, gid: 0, pieces: [] };
    const { size: sizeBytes, mode, uid, gid } = await old.stat();
    const pieces: { offsetBytes: number; lengthBytes: number; storedAt: number }[] = [];
    const [before, after] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
    for (let offsetBytes = 0; offsetBytes < sizeBytes; offsetBytes += PIECE_BYTES) {
      const { bytesRead } = await old.read(before, 0, PIECE_BYTES, offsetBytes);
      const found = await (now ?? NOTHING).read(after, 0, PIECE_BYTES, offsetBytes);
      const bytes = before.subarray(0, bytesRead);
      if (found.bytesRead >= bytesRead && bytes.equals(after.subarray(0, bytesRead))) continue;
      const storedAt = await this.#store(bytes);
      const last = pieces.at(-1);
      if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += bytesRead;
      else pieces.push({ offsetBytes, lengthBytes: bytesRead, storedAt });
    }
    return { existed: true, sizeBytes, mode: mode & 0o7777, uid, gid, pieces };
  }

  async #store(bytes: Buffer): Promise<number> {
    const at = this.#length;
    try {
      await this.#file.write(bytes, 0, bytes.length, at);
    } catch (cause) {
      if (systemCode(cause) !== 'ENOSPC') throw cause;
      throw new LifeboatError('disk.full', `There is no space left for the journal in ${this.#path}`, { cause });
    }
    this.#length += bytes.length;
    return at;
  }

  /** Durable when it resolves. */
  async close(): Promise<void> {
    try {
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }
}

/** The old content: what is there `now`, cut or lengthened, with the pieces of `path` put into it. */
export async function originalContent(original: OriginalFile, now: Uint8Array, path: string): Promise<Buffer> {
  const content = Buffer.alloc(original.sizeBytes);
  content.set(now.subarray(0, original.sizeBytes));
  const store = await open(path, 'r');
  try {
    for (const { offsetBytes, lengthBytes, storedAt } of original.pieces)
      await store.read(content, offsetBytes, lengthBytes, storedAt);
  } finally {
    await store.close();
  }
  return content;
}
