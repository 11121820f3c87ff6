/**
 * The "newc" cpio format, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 *   070701 ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check   (8 hex digits each)
 *   name NUL, padded to 4 ── content, padded to 4 ── next header ... ── TRAILER!!!
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export const fileTypes = { mask: 0o170000, directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;

export interface CpioEntry {
  /** Relative, without a leading `./` or `/`. */
  readonly path: string;
  /** Type and permission bits. */
  readonly mode: number;
  readonly content: Uint8Array;
}

export interface CpioArchive {
  readonly entries: readonly CpioEntry[];
  /** Position after the trailer, padded to 4; padding to a block is not counted. */
  readonly endBytes: number;
}

const HEADER_BYTES = 110;
const TRAILER = 'TRAILER!!!';
const MAX_NAME_BYTES = 4096;
const MAX_ENTRIES = 1_000_000;
const BLOCK_BYTES = 512;

export function isCpioAt(bytes: Uint8Array, offset: number): boolean {
  const magic = Buffer.from(bytes.buffer, bytes.byteOffset + offset, Math.min(6, bytes.length - offset)).toString(
    'latin1',
  );
  return magic === '070701' || magic === '070702';
}

/**
 * Reads one archive from `offset` to its trailer. Contents are views of `bytes`.
 * Errors: `guest.initrd-damaged` for anything that is not a complete archive; `where` names it.
 */
export function readCpio(bytes: Uint8Array, offset: number, where: string): CpioArchive {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: CpioEntry[] = [];
  let at = offset;
  for (;;) {
    const damaged = (problem: string): never => {
      throw new LifeboatError('guest.initrd-damaged', `${where}: the cpio entry at byte ${at} ${problem}`, {
        context: { where, offsetBytes: at },
      });
    };
    if (at + HEADER_BYTES > buffer.length) damaged('is cut off');
    if (!isCpioAt(buffer, at)) damaged('does not begin with 070701');
    const fields = buffer.toString('latin1', at + 6, at + HEADER_BYTES);
    if (!/^[0-9a-fA-F]{104}$/.test(fields)) damaged('has a header that is not hexadecimal');
    const field = (index: number) => Number.parseInt(fields.slice(index * 8, index * 8 + 8), 16);
    const size = field(6);
    const nameBytes = field(11);
    if (nameBytes < 1 || nameBytes > MAX_NAME_BYTES) damaged(`has a name of ${nameBytes} bytes`);
    const contentAt = align4(at - offset + HEADER_BYTES + nameBytes) + offset;
    const next = align4(contentAt - offset + size) + offset;
    if (contentAt + size > buffer.length) damaged(`announces ${size} bytes of content and is cut off`);
    const name = buffer.toString('utf8', at + HEADER_BYTES, at + HEADER_BYTES + nameBytes - 1);
    // The last archive of a file may lack the padding after its trailer.
    if (name === TRAILER) return { entries, endBytes: Math.min(next, buffer.length) };
    if (entries.length >= MAX_ENTRIES) damaged(`is number ${MAX_ENTRIES + 1}`);
    entries.push({
      path: name.replace(/^(\.?\/)+/, ''),
      mode: field(1),
      content: buffer.subarray(contentAt, contentAt + size),
    });
    at = next;
  }
}

/** One archive with trailer, padded to 512 bytes. Owner root, times `mtimeSeconds`; equal input gives equal bytes. */
export function writeCpio(
  entries: readonly CpioEntry[],
  options: { mtimeSeconds: number; firstInode?: number },
): Buffer {
  const parts: Buffer[] = [];
  let total = 0;
  const push = (part: Uint8Array): void => {
    parts.push(Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    total += part.byteLength;
    const padding = align4(total) - total;
    if (padding > 0) parts.push(Buffer.alloc(padding));
    total += padding;
  };
  const header = (
    path: string,
    numbers: { inode: number; mode: number; mtime: number; links: number; size: number },
  ): void => {
    const name = Buffer.from(`${path}\0`, 'utf8');
    const { inode, mode, mtime, links, size } = numbers;
    const fields = [inode, mode, 0, 0, links, mtime, size, 0, 0, 0, 0, name.length, 0];
    const text = fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('');
    push(Buffer.concat([Buffer.from(`070701${text}`, 'latin1'), name]));
  };
  // Entries of one inode number and more than one link would be hard links to each other.
  let inode = options.firstInode ?? 1;
  for (const { path, mode, content } of entries) {
    const isDirectory = (mode & fileTypes.mask) === fileTypes.directory;
    header(path, { inode, mode, mtime: options.mtimeSeconds, links: isDirectory ? 2 : 1, size: content.length });
    push(content);
    inode += 1;
  }
  header(TRAILER, { inode: 0, mode: 0, mtime: 0, links: 1, size: 0 });
  parts.push(Buffer.alloc(-total & (BLOCK_BYTES - 1)));
  return Buffer.concat(parts);
}

function align4(value: number): number {
  return Math.ceil(value / 4) * 4;
}
