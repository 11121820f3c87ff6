import { assertWithin, type BlockDevice } from '@lifeboat/foundation/block-device';
import type { MappedDevice } from './mapped-device.ts';

export async function readRun(
  device: BlockDevice,
  offsetBytes: number,
  lengthBytes: number,
  options: { signal?: AbortSignal },
): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  await device.read(offsetBytes, bytes, options);
  return bytes;
}

/** A run of a disk as a disk of its own. Its end is not that of the whole: closing it closes nothing. */
export function sliceDevice(device: BlockDevice, run: { offsetBytes: number; lengthBytes: number }): MappedDevice {
  assertWithin(device.sizeBytes, run, 'slice');
  return {
    sizeBytes: run.lengthBytes,
    locate: (part) => {
      assertWithin(run.lengthBytes, part, 'place in a slice');
      return { lengthBytes: part.lengthBytes, copies: [{ device, offsetBytes: run.offsetBytes + part.offsetBytes }] };
    },
    read: (offsetBytes, target, options) => {
      assertWithin(run.lengthBytes, { offsetBytes, lengthBytes: target.length }, 'read of a slice');
      return device.read(run.offsetBytes + offsetBytes, target, options);
    },
    extents: async (range) => [{ ...range, kind: 'data' }],
    close: async () => {},
  };
}

export interface LittleEndian {
  u16(at: number): number;
  u32(at: number): number;
  /** 64 bits as a number. Values no disk can have become Infinity, so that every bound check rejects them. */
  u64(at: number): number;
  bits64(at: number): bigint;
}

export function littleEndian(bytes: Uint8Array): LittleEndian {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bits64 = (at: number) => view.getBigUint64(at, true);
  return {
    u16: (at) => view.getUint16(at, true),
    u32: (at) => view.getUint32(at, true),
    u64: (at) => {
      const value = bits64(at);
      // 2^40 sectors of 4 KiB still fit a safe integer when multiplied into bytes.
      return value <= 1n << 40n ? Number(value) : Number.POSITIVE_INFINITY;
    },
    bits64,
  };
}

export function ascii(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.subarray(at, at + length)).toString('latin1');
}

/** A text field of fixed length that ends at its first NUL. */
export function textField(bytes: Uint8Array, at: number, length: number): string {
  const field = Buffer.from(bytes.subarray(at, at + length));
  const end = field.indexOf(0);
  return field.subarray(0, end < 0 ? length : end).toString('utf8');
}

/** 16 bytes in the order they stand, as `11111111-2222-3333-4444-555555555555`. */
export function uuidAt(bytes: Uint8Array, at: number): string {
  const hex = Buffer.from(bytes.subarray(at, at + 16)).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
