import { open } from 'node:fs/promises';
import { LifeboatError } from '@lifeboat/foundation/errors';

const HEADER_BYTES = 104;
const QCOW2_MAGIC = 0x514649fb; // 'QFI\xfb'
/** Incompatible feature bit 2: guest data is in a file of its own (qcow2 specification, "Header"). */
const EXTERNAL_DATA_FILE = 1n << 2n;

/**
 * Refuses a qcow2 image whose header names another file. QEMU would open whatever the header says, also
 * `/etc/shadow`, so an image that was writable by somebody else is only opened when it stands alone.
 * Errors: `host.image-external-reference`. A file that is no qcow2 is left for QEMU to refuse.
 */
export async function assertStandsAlone(path: string): Promise<void> {
  const header = Buffer.alloc(HEADER_BYTES);
  const file = await open(path, 'r');
  try {
    await file.read(header, 0, HEADER_BYTES, 0);
  } finally {
    await file.close();
  }
  if (header.readUInt32BE(0) !== QCOW2_MAGIC) return;
  const refuse = (what: string): never => {
    throw new LifeboatError('host.image-external-reference', `The image ${path} names ${what} in its header`, {
      context: { path },
    });
  };
  if (header.readBigUInt64BE(8) !== 0n) refuse('a backing file');
  // Version 2 headers end at 72 bytes; what follows there is no feature word.
  if (header.readUInt32BE(4) >= 3 && (header.readBigUInt64BE(72) & EXTERNAL_DATA_FILE) !== 0n) refuse('a data file');
}
