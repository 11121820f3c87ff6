/** Damage in the store does not spread into what is written after it, and the next backup mends what its source still has. */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import { packObject, packOfObject, PACKS, RELOCATIONS, type PackName } from '../format/names.ts';
import { decodePackHeader, kindOf, type PackKind } from '../format/pack.ts';
import type { DiskRoot } from '../format/point.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import type { WriteDiskRequest, WriteDiskStats } from './disk-writer.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const content = noisyDisk(40, 1);

let store: MemoryStore;
let root: DiskRoot;

/** What every story begins with: a whole point of `content`. */
beforeEach(async () => {
  store = new MemoryStore();
  ({ root } = await backUp(await initTiny(store), 1));
});

async function backUp(
  repository: Repository,
  n: number,
  request: Partial<WriteDiskRequest> & { readonly disk?: Buffer } = {},
): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
  const { disk = content, ...rest } = request;
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const source = fileSource(scratch.file(disk));
  const whole = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' } as const;
  const written = await session.writeDisk({ ...whole, ...rest }, { signal });
  const disks = [{ name: 'vda', root: written.root }];
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks });
  return written;
}

function packs(kind: PackKind): PackName[] {
  return [...store.objects].flatMap(([name, object]) => {
    const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
    return pack && kindOf(decodePackHeader(object, name).header) === kind ? [pack] : [];
  });
}

/** Flips bits of every blob, and leaves the header as it is. */
function spoil(pack: PackName): void {
  const object = store.objects.get(packObject(pack)) ?? new Uint8Array(0);
  const from = decodePackHeader(object, pack).lengthBytes;
  for (let at = from; at < object.length; at += 16) object[at] = (object[at] ?? 0) ^ 1;
}

const read = async (n: number): Promise<Buffer> => readDisk(await openTiny(store), MACHINE, pointId(n));
const relocations = (): string[] => [...store.objects.keys()].filter((name) => name.startsWith(RELOCATIONS));

describe('a data pack that is gone', () => {
  test('is not taken over from the parent by a backup that read its chunks', async () => {
    const [gone = '' as PackName] = packs('data');
    store.objects.delete(packObject(gone));
    const { stats } = await backUp(await openTiny(store), 2, { parent: root });
    expect(stats.newChunks).toBeGreaterThan(0);
    expect(stats.newChunks + stats.unchangedChunks).toBe(40);
    expect(await read(2)).toEqual(content);
  });
});

describe('pages whose pack is damaged', () => {
  test.each(['map', 'set'] as const)('are sealed anew by a full backup that makes the same: %s', async (kind) => {
    const before = packs(kind);
    for (const pack of before) spoil(pack);
    const disk = noisyDisk(40, 2);
    await expect(backUp(await openTiny(store), 2, { parent: root, disk })).rejects.toMatchObject({
      code: 'repository.map-damaged',
    });
    await backUp(await openTiny(store), 3);
    expect(await read(3)).toEqual(content);
    const opened = await openTiny(store);
    const report = await opened.checkPoint(await opened.readPoint(MACHINE, pointId(3)), 'ciphertext', {
      signal,
      progress: () => {},
    });
    expect(report).toMatchObject({ sound: true, objects: [] });
    expect(packs(kind).length).toBeGreaterThan(before.length);
    // The pages of the point before are found where they were sealed anew.
    expect(relocations().length).toBeGreaterThan(0);
    expect(await read(1)).toEqual(content);
  });

  test('are stored once when they are whole', async () => {
    const before = [...packs('map'), ...packs('set')];
    await backUp(await openTiny(store), 2);
    expect([...packs('map'), ...packs('set')]).toEqual(before);
    expect(relocations()).toEqual([]);
  });
});
