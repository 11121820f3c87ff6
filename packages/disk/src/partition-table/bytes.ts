import type { BlockDevice } from '@lifeboat/foundation/block-device';

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

export interface LittleEndian {
  u32(at: number): number;
  /** 64 bits as a number. Values no disk can have become Infinity, so that every bound check rejects them. */
  u64(at: number): number;
  bits64(at: number): bigint;
}

export function littleEndian(bytes: Uint8Array): LittleEndian {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bits64 = (at: number) => view.getBigUint64(at, true);
  return {
    u32: (at) => view.getUint32(at, true),
    u64: (at) => {
      const value = bits64(at);
      // 2^40 sectors of 4 KiB still fit a safe integer when multiplied into bytes.
      return value <= 1n << 40n ? Number(value) : Number.POSITIVE_INFINITY;
    },
    bits64,
  };
}
