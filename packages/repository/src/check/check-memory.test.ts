/** A check of many points reads what they share once, and tells each of them what is lost. */
import { afterAll, beforeEach, expect, test } from 'vitest';

import { packObject, packOfObject, PACKS, type PackName } from '../format/names.ts';
import { decodePackHeader, kindOf } from '../format/pack.ts';
import type { CheckLevel } from '../format/verification.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, pointId, Scratch } from '../testing/tiny.ts';
import type { CheckReport } from './point-check.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const content = noisyDisk(40);
const POINTS = [1, 2, 3];

class CountingStore extends MemoryStore {
  asked: string[] = [];
  override get(...[name, options]: Parameters<MemoryStore['get']>): Promise<Uint8Array> {
    this.#note(name);
    return super.get(name, options);
  }
  override getRange(...[name, range, options]: Parameters<MemoryStore['getRange']>): Promise<Uint8Array> {
    this.#note(`${name} ${range.offsetBytes}`);
    return super.getRange(name, range, options);
  }
  override head(name: string): ReturnType<MemoryStore['head']> {
    this.#note(name);
    return super.head(name);
  }
  /** Of packs of data. */
  #note(name: string): void {
    const object = this.objects.get(name.split(' ')[0] ?? '');
    if (name.startsWith(PACKS) && object && kindOf(decodePackHeader(object, name).header) === 'data')
      this.asked.push(name);
  }
}

let store: CountingStore;
let repository: Repository;
beforeEach(async () => {
  store = new CountingStore();
  repository = await initTiny(store);
  for (const n of POINTS) {
    const parent = n > 1 ? (await repository.readPoint(MACHINE, pointId(n - 1))).disks[0]?.root : undefined;
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const source = fileSource(scratch.file(content));
    const disk = { name: 'vda', sizeBytes: content.length, source, changed: parent ? [] : ('all' as const) };
    const { root } = await session.writeDisk({ ...disk, ...(parent ? { parent } : {}) }, { signal });
    await session.commit({ pointId: pointId(n), machine: {}, capture: { n }, disks: [{ name: 'vda', root }] });
  }
  store.asked = [];
});

async function checkAll(level: CheckLevel): Promise<CheckReport[]> {
  const memory = repository.checkMemory();
  const reports = [];
  for (const n of POINTS) {
    const point = await repository.readPoint(MACHINE, pointId(n));
    reports.push(await repository.checkPoint(point, level, { signal, progress: () => {} }, { memory }));
  }
  return reports;
}

test.each(['present', 'ciphertext', 'content'] as const)('%s: every place once', async (level) => {
  const reports = await checkAll(level);
  expect(reports.map(({ sound }) => sound)).toEqual([true, true, true]);
  expect(store.asked.length).toBeGreaterThan(0);
  expect(store.asked).toHaveLength(new Set(store.asked).size);
  const read = reports.map(({ checkedBytes }) => checkedBytes > 0);
  expect(read).toEqual([level !== 'present', false, false]);
});

test.each(['present', 'ciphertext', 'content'] as const)('%s: damage is told of each point', async (level) => {
  const [pack = '' as PackName] = [...store.objects.keys()]
    .flatMap((name) => packOfObject(name) ?? [])
    .filter((name) => {
      const object = store.objects.get(packObject(name)) ?? new Uint8Array();
      return kindOf(decodePackHeader(object, name).header) === 'data';
    });
  store.objects.delete(packObject(pack));
  const reports = await checkAll(level);
  expect(reports.map(({ sound }) => sound)).toEqual([false, false, false]);
  const [first] = reports.map(({ disks }) => disks);
  expect(first).not.toEqual([]);
  expect(reports.map(({ disks }) => disks)).toEqual([first, first, first]);
});
