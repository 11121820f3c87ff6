import { describe, expect, test, afterAll } from 'vitest';

import { fileSource } from '../testing/file-source.ts';
import { noisyDisk } from '../testing/disks.ts';
import { Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import type { LaneConfig } from './sealing-lane.ts';
import { threadSealer } from './thread-sealer.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const config = (content: Uint8Array, overrides: Partial<LaneConfig> = {}): LaneConfig => ({
  source: fileSource(scratch.file(content)),
  sizeBytes: content.length,
  chunkSizeBytes: TINY_CHUNK,
  stripeChunks: 4,
  owner: {
    kind: 'data',
    tenantId: Buffer.alloc(16, 1),
    chunkIdKey: Buffer.alloc(32, 2),
    baseKey: Buffer.alloc(32, 3),
    generation: new Uint8Array(0),
    access: { epoch: 1, sealedSessionKey: Buffer.alloc(80, 4) },
  },
  ...overrides,
});

describe('a sealing thread', () => {
  test('hands over a sealed pack in the buffer it was given', async () => {
    const lane = await threadSealer().openLane(config(noisyDisk(4)));
    const ids = await lane.hash([0, 1, 3]);
    const buffer = new ArrayBuffer(4096);
    await lane.store({ wanted: [0, 2], buffer });
    const sealed = await lane.seal();
    expect(sealed.pack.blobs.map(({ id }) => id)).toEqual([ids[0], ids[2]]);
    expect(Buffer.from(sealed.buffer, 0, 12).toString()).toBe('LIFEBOATPACK');
    expect(await lane.close()).toMatchObject({ sourceBytes: 3 * TINY_CHUNK });
  });

  test('reports what its source says it read, which may be more than was asked of it', async () => {
    const module = `data:text/javascript,export const openSource = async () => ({ sizeBytes: ${4 * TINY_CHUNK}, bytesRead: 0, async read(_, target) { this.bytesRead += target.length + 512 }, close: async () => {} })`;
    const lane = await threadSealer().openLane(config(noisyDisk(4), { source: { module, options: null } }));
    await lane.hash([0, 1, 3]);
    expect(await lane.close()).toMatchObject({ sourceBytes: 3 * TINY_CHUNK + 2 * 512 });
  });

  test('that dies rejects what is asked of it, and can still be closed', async () => {
    // process.exit() in a thread ends that thread.
    const module = `data:text/javascript,export const openSource = async () => ({ sizeBytes: ${4 * TINY_CHUNK}, read: async () => process.exit(3), close: async () => {} })`;
    const lane = await threadSealer().openLane(config(noisyDisk(4), { source: { module, options: null } }));
    const died = { code: 'repository.sealing-failed' };
    await expect(lane.hash([0])).rejects.toMatchObject(died);
    await expect(lane.seal()).rejects.toMatchObject(died);
    await lane.close();
  });

  test('reports a module that is no source', async () => {
    const source = { module: 'data:text/javascript,export const nothing = 1', options: null };
    await expect(threadSealer().openLane(config(noisyDisk(4), { source }))).rejects.toMatchObject({
      code: 'internal.bug',
    });
  });
});
