import { systemClock } from '@lifeboat/foundation/clock';
import type { MachineId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { parseMachineId } from '@lifeboat/foundation/ids';
import { MapReader } from '@lifeboat/repository/read/map-reader';
import { packObject } from '@lifeboat/repository/format/names';
import type { DiskRoot } from '@lifeboat/repository/format/point';
import type { Repository } from '@lifeboat/repository/repository';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { noisyDisk } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '@lifeboat/repository/testing/tiny';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { checkRepository } from './check-repository.ts';
import { placeDamage } from './damaged-partitions.ts';

const SECTOR = 512;
const scratch = new Scratch();
afterAll(() => scratch.remove());
const context = { signal: new AbortController().signal, progress: () => {} };
const listener = { begin() {}, progress() {}, end() {} };

/** 20 sectors: partition 1 from the fourth, eight of them; partition 2 right behind it, four. */
function partitioned(seed: number): Buffer {
  const disk = noisyDisk((20 * SECTOR) / TINY_CHUNK, seed);
  disk.fill(0, 0, SECTOR);
  [
    { start: 4, count: 8 },
    { start: 12, count: 4 },
  ].forEach(({ start, count }, i) => {
    const entry = 446 + i * 16;
    disk[entry + 4] = 0x83;
    disk.writeUInt32LE(start, entry + 8);
    disk.writeUInt32LE(count, entry + 12);
  });
  disk.writeUInt16BE(0x55aa, 510);
  return disk;
}

describe('a check of the whole repository', () => {
  let store: MemoryStore;
  let repository: Repository;
  beforeEach(async () => {
    store = new MemoryStore();
    repository = await initTiny(store);
  });

  async function backUp(machineId: MachineId, n: number, disk: Buffer): Promise<DiskRoot> {
    const session = await repository.beginSession({ machineId, directory: scratch.directory() });
    const source = fileSource(scratch.file(disk));
    const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' } as const;
    const { root } = await session.writeDisk(request, context);
    const capture = { version: 1, machineName: `name of ${machineId}`, instantMs: 1, consistency: 'crash', disks: [] };
    await session.commit({ pointId: pointId(n), machine: {}, capture, disks: [{ name: 'vda', root }] });
    return root;
  }

  async function damage(root: DiskRoot, offsetBytes: number): Promise<void> {
    const { pages, superblock: geometry } = repository.core;
    const place = await new MapReader({ root, pages, geometry, what: 'vda' }).place(offsetBytes / TINY_CHUNK);
    if (typeof place === 'string') throw new Error(`nothing at ${offsetBytes}`);
    const object = store.objects.get(packObject(place.pack)) ?? new Uint8Array();
    object[place.offsetBytes + 20] = (object[place.offsetBytes + 20] ?? 0) ^ 1;
  }

  const check = async () =>
    checkRepository(
      { repository: await openTiny(store), clock: systemClock, log: silentLog },
      { level: 'content', listener },
      { signal: context.signal },
    );

  it('says by machine, disk and partition what is lost, and in which points', async () => {
    const other = parseMachineId('machine-2');
    const root = await backUp(MACHINE, 1, partitioned(1));
    await backUp(MACHINE, 2, partitioned(1));
    await backUp(other, 3, partitioned(2));
    // Two neighbours on both sides of a border, and one in front of the partitions.
    for (const at of [12 * SECTOR - TINY_CHUNK, 12 * SECTOR, 2 * SECTOR]) await damage(root, at);
    const { points, losses } = await check();
    expect(points.map(({ point, sound }) => [point, sound])).toEqual([
      [`${MACHINE} ${pointId(1)}`, false],
      [`${MACHINE} ${pointId(2)}`, false],
      [`${other} ${pointId(3)}`, true],
    ]);
    const lost = {
      machineId: MACHINE,
      machineName: `name of ${MACHINE}`,
      disk: 'vda',
      lostBytes: TINY_CHUNK,
      points: [pointId(1), pointId(2)],
    };
    expect(losses).toEqual([
      { ...lost, partition: 'outside the partitions' },
      { ...lost, partition: 'partition 1' },
      { ...lost, partition: 'partition 2' },
    ]);
  });

  it('cuts what is lost where partitions begin and end', async () => {
    await backUp(MACHINE, 1, partitioned(1));
    const point = await repository.readPoint(MACHINE, pointId(1));
    const range = { disk: 'vda', offsetBytes: SECTOR, lengthBytes: 18 * SECTOR, pack: 'p', reason: 'r' };
    const places = await placeDamage(repository, point, [range]);
    expect(places.map(({ partition, offsetBytes, lengthBytes }) => [partition, offsetBytes, lengthBytes])).toEqual([
      ['outside the partitions', SECTOR, 3 * SECTOR],
      ['partition 1', 4 * SECTOR, 8 * SECTOR],
      ['partition 2', 12 * SECTOR, 4 * SECTOR],
      ['outside the partitions', 16 * SECTOR, 3 * SECTOR],
    ]);
  });

  it.each([
    ['partition table damaged, too', partitioned(1)],
    ['no partitions', noisyDisk(20)],
  ])('says so where there is no partition to name: %s', async (partition, disk) => {
    const root = await backUp(MACHINE, 1, disk);
    await damage(root, disk.length - TINY_CHUNK);
    // The signature of the table.
    if (disk.length > SECTOR * 5) await damage(root, 448);
    const { losses } = await check();
    expect(losses).toMatchObject([{ disk: 'vda', partition }]);
  });
});
