/**
 * What an initrd file is made of. The kernel (init/initramfs.c) takes any number of archives one after the other, each
 * plain or compressed, with NULs between them; plain ones begin at a multiple of 4.
 *
 *   ┌ cpio: microcode ┐┌ zstd( cpio: everything else ) ┐┌ 0000 ┐┌ cpio: what we append ┐
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { GiB } from '@lifeboat/foundation/units';
import { isCpioAt, readCpio, type CpioEntry } from './cpio.ts';
import { compressionAt, decompressMember, type Compression, type Unpackers } from './compression.ts';

export interface InitrdSegment {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly compression: Compression | 'none';
  readonly entries: readonly CpioEntry[];
}

/** A Debian initrd with all modules unpacks to some 200 MB; five times that is an attack on our memory. */
const MAX_UNPACKED_BYTES = GiB;
const MAX_SEGMENTS = 64;

/**
 * Splits and unpacks a whole initrd. `where` names it in errors.
 * Errors: `guest.initrd-damaged`; `guest.initrd-compression-unknown` for a format we do not unpack.
 */
export async function readInitrdSegments(
  bytes: Uint8Array,
  where: string,
  unpackers: Unpackers,
  options: { maxUnpackedBytes?: number } = {},
): Promise<InitrdSegment[]> {
  const segments: InitrdSegment[] = [];
  let budgetBytes = options.maxUnpackedBytes ?? MAX_UNPACKED_BYTES;
  let at = skipNuls(bytes, 0);
  while (at < bytes.length) {
    if (segments.length >= MAX_SEGMENTS) {
      throw new LifeboatError('guest.initrd-damaged', `${where} has more than ${MAX_SEGMENTS} archives`, {
        context: { where },
      });
    }
    if (isCpioAt(bytes, at) && at % 4 === 0) {
      const { entries, endBytes } = readCpio(bytes, at, where);
      segments.push({ offsetBytes: at, lengthBytes: endBytes - at, compression: 'none', entries });
      at = skipNuls(bytes, endBytes);
      continue;
    }
    const compression = compressionAt(bytes, at);
    if (compression === undefined) {
      const found = Buffer.from(bytes.subarray(at, at + 6)).toString('hex');
      throw new LifeboatError(
        'guest.initrd-compression-unknown',
        `${where}: at byte ${at} there is neither a cpio archive nor a known compression (found ${found})`,
        { context: { where, offsetBytes: at, found } },
      );
    }
    const member = await decompressMember(
      bytes,
      { offsetBytes: at, compression, where, maxBytes: budgetBytes },
      unpackers,
    );
    budgetBytes -= member.content.length;
    segments.push({
      offsetBytes: at,
      lengthBytes: member.lengthBytes,
      compression,
      entries: readAll(member.content, `${where} (unpacked)`),
    });
    at = skipNuls(bytes, at + member.lengthBytes);
  }
  return segments;
}

/** A compressed segment may itself hold several archives. */
function readAll(content: Uint8Array, where: string): CpioEntry[] {
  const entries: CpioEntry[] = [];
  for (let at = skipNuls(content, 0); at < content.length;) {
    const archive = readCpio(content, at, where);
    for (const entry of archive.entries) entries.push(entry);
    at = skipNuls(content, archive.endBytes);
  }
  return entries;
}

function skipNuls(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] === 0) at += 1;
  return at;
}
