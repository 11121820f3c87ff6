/** Blobs that are not where the map says are found where a relocation says, and nothing else is believed. */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import type { BlobRef } from '../format/blob-ref.ts';
import {
  KEYS,
  packObject,
  packOfObject,
  PACKS,
  relocatedPackOf,
  relocationIdOf,
  relocationObject,
  RELOCATIONS,
  type PackName,
} from '../format/names.ts';
import { decodePackHeader, kindOf, type PackKind } from '../format/pack.ts';
import { decodeRelocation, encodeRelocation, encodeRelocationStatement, targetPacks } from '../format/relocation.ts';
import type { Repository } from '../repository.ts';
import { publicPart, signEd25519 } from '../seal/curve-keys.ts';
import { signedRelocation } from '../seal/relocation-seal.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { ObjectInfo } from '../store/object-store.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { movePack } from '../testing/move-pack.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import { writeRelocation } from '../write/relocation-writer.ts';
import { MapReader } from './map-reader.ts';
import { readPackSet } from './pack-set-reader.ts';
import type { Point } from './point-reader.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const content = noisyDisk(50);

class CountingStore extends MemoryStore {
  readonly listed: string[] = [];
  readonly read: string[] = [];
  override async *list(prefix: string): AsyncIterable<ObjectInfo> {
    this.listed.push(prefix);
    yield* super.list(prefix);
  }
  override getRange(...[name, range]: Parameters<MemoryStore['getRange']>): Promise<Uint8Array> {
    this.read.push(name);
    return super.getRange(name, range);
  }
}

let store: CountingStore;
let repository: Repository;

beforeEach(async () => {
  store = new CountingStore();
  repository = await initTiny(store);
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const request = { name: 'vda', sizeBytes: content.length, source: fileSource(scratch.file(content)) };
  const { root } = await session.writeDisk({ ...request, changed: 'all' }, { signal });
  await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
});

function packs(kind?: PackKind): PackName[] {
  return [...store.objects].flatMap(([name, object]) => {
    const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
    return pack && (!kind || kindOf(decodePackHeader(object, name).header) === kind) ? [pack] : [];
  });
}

async function readBack(): Promise<Buffer> {
  return readDisk(await openTiny(store), MACHINE, pointId(1));
}

/** Moves every pack and removes it. Returns the names of the relocations. */
async function moveAll(): Promise<string[]> {
  for (const pack of packs()) {
    await movePack(repository, pack);
    store.objects.delete(packObject(pack));
  }
  return [...store.objects.keys()].filter((name) => name.startsWith(RELOCATIONS));
}

describe('relocations', () => {
  test('are never asked for while every place in the map holds', async () => {
    store.listed.length = 0;
    expect(await readBack()).toEqual(content);
    expect(store.listed).toEqual([KEYS]);
  });

  test('give back every blob of packs that are gone: chunks, map pages and pages of pack sets', async () => {
    await moveAll();
    expect(await readBack()).toEqual(content);
    const opened = await openTiny(store);
    const point = await opened.readPoint(MACHINE, pointId(1));
    for await (const use of readUses(opened, point)) expect(use).not.toBeInstanceOf(Error);
  });

  test('are followed from pack to pack', async () => {
    for (const pack of packs('data')) {
      let at = pack;
      for (let i = 0; i < 5; i++) {
        const next = await movePack(repository, at);
        store.objects.delete(packObject(at));
        at = next;
      }
    }
    expect(await readBack()).toEqual(content);
  });

  test('that lead in a circle end as damage', async () => {
    const [a = '' as PackName] = packs('data');
    const b = await movePack(repository, a);
    const opened = await openTiny(store);
    const ref = await someRef(opened);
    await writeRelocation(opened.core, {
      relocationId: 'circle',
      pack: b,
      reason: 'compacted',
      moved: [{ ...ref, pack: a }],
      sizes: new Map([[a, 1]]),
    });
    store.objects.delete(packObject(a));
    store.objects.delete(packObject(b));
    await expect(readBack()).rejects.toMatchObject({ code: 'repository.chunk-damaged' });
  });

  test('of one damaged blob heal that blob, also for a reader that is open already', async () => {
    const [pack = '' as PackName] = packs('data');
    const intact = Uint8Array.from(store.objects.get(packObject(pack)) ?? []);
    const opened = await openTiny(store);
    const point = await opened.readPoint(MACHINE, pointId(1));
    const { offsetBytes } = await someRef(opened);
    const device = opened.openDisk(point, 'vda');
    const object = store.objects.get(packObject(pack)) ?? new Uint8Array();
    object[offsetBytes] = (object[offsetBytes] ?? 0) ^ 1;
    const target = Buffer.alloc(content.length);
    await expect(device.read(0, target)).rejects.toMatchObject({ code: 'repository.chunk-damaged' });
    const elsewhere = new CountingStore();
    for (const [name, bytes] of store.objects) elsewhere.objects.set(name, bytes);
    elsewhere.objects.set(packObject(pack), intact);
    await movePack(await openTiny(elsewhere), pack, { slots: [0] });
    for (const [name, bytes] of elsewhere.objects) if (!store.objects.has(name)) store.objects.set(name, bytes);
    await device.read(0, target);
    expect(target).toEqual(content);
  });

  test('are remembered: a pack that is gone is not asked for again and again', async () => {
    const gone = packs('data');
    await moveAll();
    const opened = await openTiny(store);
    const device = opened.openDisk(await opened.readPoint(MACHINE, pointId(1)), 'vda');
    store.listed.length = 0;
    store.read.length = 0;
    for (let at = 0; at < content.length; at += 64) await device.read(at, Buffer.alloc(64));
    expect(store.listed.length).toBeLessThanOrEqual(20);
    for (const pack of gone) {
      // One blob and one header, twice.
      expect(store.read.filter((name) => name === packObject(pack)).length).toBeLessThanOrEqual(4);
    }
  });

  test('say in the open which packs they lead to, and how large those are', async () => {
    const [pack = '' as PackName] = packs('data');
    const to = await movePack(repository, pack);
    const [name = ''] = [...store.objects.keys()].filter((object) => object.startsWith(RELOCATIONS));
    const { statement } = decodeRelocation(store.objects.get(name) ?? new Uint8Array(), name);
    expect(targetPacks(statement)).toEqual([{ pack: to, sizeBytes: store.objects.get(packObject(to))?.length }]);
  });

  test('are found behind any number of names that others put there, with tags of their own and without', async () => {
    const ours = await moveAll();
    const foreign = ours.flatMap((name) =>
      Array.from({ length: 300 }, (_, i) => {
        const made = `${name.slice(0, name.lastIndexOf('/'))}/${String(i).padStart(4, '0')}`;
        return [made, `${made}.${'0'.repeat(32)}`];
      }).flat(),
    );
    const before = [...store.objects];
    store.objects.clear();
    for (const name of foreign) store.objects.set(name, Buffer.from('first'));
    for (const [name, object] of before) store.objects.set(name, object);
    expect(await readBack()).toEqual(content);
  });

  test('of before their names had tags are read', async () => {
    for (const name of await moveAll()) {
      const object = store.objects.get(name) ?? new Uint8Array();
      store.objects.delete(name);
      const plain = relocationObject(relocatedPackOf(name), relocationIdOf(name));
      expect(plain).not.toBe(name);
      store.objects.set(plain, object);
    }
    expect(await readBack()).toEqual(content);
  });

  test('written twice are one, and never two different ones', async () => {
    const [pack = '' as PackName, other = '' as PackName] = packs('data');
    const moved = [{ ...(await someRef(repository)), pack: other }];
    const same = { relocationId: 'r', pack, reason: 'healed', moved, sizes: new Map([[other, 9]]) } as const;
    expect(await writeRelocation(repository.core, same)).toBe(await writeRelocation(repository.core, same));
    const different = { ...same, moved: moved.map((ref) => ({ ...ref, slot: 7 })) };
    expect(await writeRelocation(repository.core, different)).toBeUndefined();
  });
});

describe('a relocation that is not ours is passed over', () => {
  const forge = (object: Uint8Array, seed: Uint8Array | undefined): Uint8Array => {
    const { statement, signature } = decodeRelocation(object, 'it');
    const signer = seed ? publicPart('ed25519', seed) : statement.signer;
    const bytes = encodeRelocationStatement({ ...statement, createdMs: statement.createdMs + 1, signer });
    return encodeRelocation({
      statement: bytes,
      signature: seed ? signEd25519(seed, signedRelocation(bytes)) : signature,
    });
  };
  const harms: Record<string, (object: Uint8Array, others: Uint8Array[]) => Uint8Array | undefined> = {
    'it is gone': () => undefined,
    'it is empty': () => new Uint8Array(),
    'it is cut short': (object) => object.subarray(0, object.length - 1),
    'its statement was changed': (object) => forge(object, undefined),
    'somebody else signed it': (object) => forge(object, Buffer.alloc(32, 3)),
    "it is another pack's": (_, others) => others[0],
  };
  test.each(Object.keys(harms))('when %s', async (why) => {
    const names = await moveAll();
    expect(await readBack()).toEqual(content);
    const pristine = new Map(names.map((name) => [name, store.objects.get(name) ?? new Uint8Array()]));
    for (const name of names) {
      const others = names.filter((other) => other !== name).map((other) => pristine.get(other) ?? new Uint8Array());
      const harmed = harms[why]?.(pristine.get(name) ?? new Uint8Array(), others);
      if (harmed) store.objects.set(name, harmed);
      else store.objects.delete(name);
    }
    await expect(readBack()).rejects.toMatchObject({ code: 'repository.map-damaged' });
  });

  test('when it comes from another repository', async () => {
    const other = new MemoryStore();
    const theirs = await initTiny(other);
    const anyRef = await someRef(repository);
    const names = await moveAll();
    for (const name of names) {
      const { statement } = decodeRelocation(store.objects.get(name) ?? new Uint8Array(), name);
      const pack = Buffer.from(statement.pack).toString('hex') as PackName;
      const [target] = targetPacks(statement);
      if (!target) continue;
      const moved = [{ ...anyRef, pack: target.pack }];
      const relocation = {
        relocationId: 'r1',
        pack,
        reason: 'healed',
        moved,
        sizes: new Map([[target.pack, 9]]),
      } as const;
      store.objects.set(
        name,
        other.objects.get((await writeRelocation(theirs.core, relocation)) ?? '') ?? new Uint8Array(),
      );
    }
    await expect(readBack()).rejects.toMatchObject({ code: 'repository.map-damaged' });
  });
});

/** Where the first chunk of the disk is. */
async function someRef(from: Repository): Promise<BlobRef> {
  const point = await from.readPoint(MACHINE, pointId(1));
  const [disk] = point.disks;
  if (!disk) throw new Error('no disk');
  const map = new MapReader({ root: disk.root, pages: from.core.pages, geometry: from.core.superblock, what: 'vda' });
  const place = await map.place(0);
  if (typeof place === 'string') throw new Error('no chunk');
  return place;
}

async function* readUses(from: Repository, point: Point): AsyncIterable<unknown> {
  for (const { root } of point.disks) yield* readPackSet(from.core.pages, root.packs);
}
