import type { Extent, WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { MiB } from '@lifeboat/foundation/units';
import { describe, expect, it } from 'vitest';
import { copyDisk } from './copy-disk.ts';

class MemoryDisk implements WritableBlockDevice {
  readonly bytes: Buffer;
  readonly kinds: Extent[];
  flushed = false;
  failWriteAt = -1;
  writesAfterFailure = 0;
  #failed = false;

  constructor(bytes: Buffer, kinds: Extent[] = []) {
    this.bytes = bytes;
    this.kinds = kinds;
  }
  get sizeBytes(): number {
    return this.bytes.length;
  }
  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, offsetBytes % 3));
    this.bytes.copy(target, 0, offsetBytes, offsetBytes + target.length);
  }
  async extents(): Promise<Extent[]> {
    return this.kinds;
  }
  async write(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (this.#failed) this.writesAfterFailure++;
    if (offsetBytes === this.failWriteAt) {
      this.#failed = true;
      throw new Error('no space left');
    }
    this.bytes.set(bytes, offsetBytes);
  }
  async writeZeros(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }
  async flush(): Promise<void> {
    this.flushed = true;
  }
  async close(): Promise<void> {}
}

const SIZE = 9 * MiB + 512;
function source(): MemoryDisk {
  const bytes = Buffer.alloc(SIZE);
  const kinds: Extent[] = [
    { offsetBytes: 0, lengthBytes: 1000, kind: 'data' },
    { offsetBytes: 1000, lengthBytes: 2 * MiB, kind: 'hole' },
    { offsetBytes: 1000 + 2 * MiB, lengthBytes: 6 * MiB, kind: 'data' },
    { offsetBytes: 1000 + 8 * MiB, lengthBytes: SIZE - 1000 - 8 * MiB, kind: 'zero' },
  ];
  for (const { kind, offsetBytes, lengthBytes } of kinds) {
    if (kind === 'data') for (let i = 0; i < lengthBytes; i++) bytes[offsetBytes + i] = (i * 7 + 1) & 255;
  }
  return new MemoryDisk(bytes, kinds);
}
const context = { signal: new AbortController().signal, progress: () => {} };

describe('copyDisk', () => {
  it('makes a blank target equal, writing data only', async () => {
    const from = source();
    const to = new MemoryDisk(Buffer.alloc(SIZE));
    const reports: number[] = [];
    const written = await copyDisk(
      from,
      to,
      { targetIsBlank: true, name: 'sda' },
      {
        ...context,
        progress: ({ doneBytes }) => reports.push(doneBytes),
      },
    );
    expect(to.bytes.equals(from.bytes)).toBe(true);
    expect(written).toBe(1000 + 6 * MiB);
    expect(to.flushed).toBe(true);
    expect(reports).toEqual([...reports].sort((a, b) => a - b));
    expect(reports.at(-1)).toBe(written);
  });

  it('overwrites what an old target held, also where the point has nothing', async () => {
    const from = source();
    const to = new MemoryDisk(Buffer.alloc(SIZE, 0xee));
    await copyDisk(from, to, { targetIsBlank: false, name: 'sda' }, context);
    expect(to.bytes.equals(from.bytes)).toBe(true);
  });

  it('stops every lane before a write error leaves, and does not call the target durable', async () => {
    const to = new MemoryDisk(Buffer.alloc(SIZE));
    to.failWriteAt = 3 * MiB;
    await expect(copyDisk(source(), to, { targetIsBlank: true, name: 'sda' }, context)).rejects.toThrow(
      'no space left',
    );
    expect(to.flushed).toBe(false);
    const atRejection = to.writesAfterFailure;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(to.writesAfterFailure).toBe(atRejection);
  });
});
