import { createHash } from 'node:crypto';

import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { packNameOf, packObject, type PackName } from '../format/names.ts';
import { readPackSet, readPackSets } from '../read/pack-set-reader.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { initTiny, MACHINE, TINY_GEOMETRY } from '../testing/tiny.ts';
import type { PackChange } from './pack-deltas.ts';
import { PackSetWriter } from './pack-set-writer.ts';
import { PageWriter, type PageWriterDeps } from './page-writer.ts';

const PACK_BYTES = 1000;
const MAX_PACKS = TINY_GEOMETRY.packSetEntries;

/** Names that share digits, so that pages are split more than once. */
function name(n: number): PackName {
  const prefix = n.toString(2).padStart(8, '0');
  const rest = createHash('sha256').update(String(n)).digest('hex');
  return packNameOf(Buffer.from((prefix + rest).slice(0, 64), 'hex'));
}

/** Tells of every page. */
class WatchedWriter extends PageWriter {
  readonly #watch: () => void;

  constructor(deps: PageWriterDeps, watch: () => void) {
    super(deps);
    this.#watch = watch;
  }

  override put(encode: () => Uint8Array): Promise<BlobRef> {
    this.#watch();
    return super.put(encode);
  }
}

function pageWriter(core: Core, watch = (): void => {}): PageWriter {
  const { tenantId, chunkIdKey } = core.keyring;
  const baseKey = core.keyring.machineKey(MACHINE);
  const access = { machineId: MACHINE };
  const deps: PageWriterDeps = {
    owner: { kind: 'set', tenantId, chunkIdKey, baseKey, generation: new Uint8Array(0), access },
    compression: core.zstd(1),
    packBytes: 4096,
    async upload(pack, bytes) {
      await core.store.putIfAbsent(packObject(pack.name), [Uint8Array.from(bytes)]);
      return 'stored';
    },
  };
  return new WatchedWriter(deps, watch);
}

async function update(
  core: Core,
  before: BlobRef | null,
  changes: Iterable<PackChange>,
  writer = pageWriter(core),
): Promise<BlobRef | null> {
  const set = new PackSetWriter({ pages: core.pages, writer, maxPacks: MAX_PACKS, sizeOf: () => PACK_BYTES });
  const root = await set.update(before, asStream(changes));
  await writer.flush();
  return root && { ...root };
}

async function* asStream<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** The pages, without where they lie. */
async function shapeOf(core: Core, ref: BlobRef | null, depth = 0): Promise<unknown> {
  if (!ref) return 'nothing';
  const page = await core.pages.packSet(ref, depth);
  if (page.kind === 'leaf') return page.packs;
  const children = [];
  for (const child of page.children)
    children.push(typeof child === 'string' ? child : await shapeOf(core, child, depth + 1));
  return { packCount: page.packCount, children };
}

test('a pack set is what all changes come to, in the pages it would have if it were written anew', async () => {
  const { core } = await initTiny(new MemoryStore());
  const step = fc.uniqueArray(fc.tuple(fc.nat(255), fc.nat(3)), { selector: ([n]) => n, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (steps) => {
      const model = new Map<PackName, number>();
      let root: BlobRef | null = null;
      for (const wanted of steps) {
        const changes = wanted
          .map(([n, references]) => ({ pack: name(n), references: references - (model.get(name(n)) ?? 0) }))
          .filter(({ references }) => references !== 0)
          .toSorted((a, b) => (a.pack < b.pack ? -1 : 1));
        for (const { pack, references } of changes) {
          const total = (model.get(pack) ?? 0) + references;
          if (total === 0) model.delete(pack);
          else model.set(pack, total);
        }
        root = await update(core, root, changes);
        const uses = [...model]
          .map(([pack, references]) => ({ pack, references, sizeBytes: PACK_BYTES }))
          .toSorted((a, b) => (a.pack < b.pack ? -1 : 1));
        const found = [];
        for await (const need of readPackSet(core.pages, root))
          if (!(need instanceof Error) && need.sizeBytes) found.push(need);
        expect(found).toEqual(uses);
        expect(await shapeOf(core, root)).toEqual(await shapeOf(core, await update(core, null, uses)));
      }
    }),
    { numRuns: 40 },
  );
});

test('pages are written while changes still come: never more than a few are taken before the next one', async () => {
  const { core } = await initTiny(new MemoryStore());
  let taken = 0;
  let sinceLast = 0;
  let most = 0;
  const writer = pageWriter(core, () => {
    most = Math.max(most, taken - sinceLast);
    sinceLast = taken;
  });
  const names = Array.from({ length: 3000 }, (_, n) => packNameOf(createHash('sha256').update(`${n}`).digest()));
  const changes = function* (): Generator<PackChange> {
    for (const pack of names.toSorted()) {
      taken++;
      yield { pack, references: 1 };
    }
  };
  const root = await update(core, null, changes(), writer);
  expect(taken).toBe(3000);
  let packs = 0;
  for await (const need of readPackSet(core.pages, root)) if (!(need instanceof Error) && need.sizeBytes) packs++;
  expect(packs).toBe(3000);
  expect(most).toBeLessThan(8 * MAX_PACKS);
});

test('of several sets every pack is given once, in the order of the names, with errors of pages that cannot be read', async () => {
  const store = new MemoryStore();
  const { core } = await initTiny(store);
  const member = fc.uniqueArray(fc.nat(60), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(member, { minLength: 1, maxLength: 4 }), async (members) => {
      const sets = [];
      for (const [i, numbers] of members.entries()) {
        const packs = numbers.map(name).toSorted();
        const root = await update(
          core,
          null,
          packs.map((pack) => ({ pack, references: 1 })),
        );
        sets.push({ name: `disk ${i}`, root });
      }
      const sized: PackName[] = [];
      const ofPages: PackName[] = [];
      for await (const need of readPackSets(core.pages, sets)) {
        if ('error' in need) throw need.error;
        (need.sizeBytes === undefined ? ofPages : sized).push(need.pack);
      }
      expect(sized).toEqual([...new Set(members.flat().map(name))].toSorted());
      expect(new Set(ofPages).size).toBe(ofPages.length);
    }),
    { numRuns: 30 },
  );
  const lost = await update(core, null, [{ pack: name(1), references: 1 }]);
  const kept = await update(core, null, [{ pack: name(2), references: 1 }]);
  if (lost) store.objects.delete(packObject(lost.pack));
  const found = [];
  for await (const need of readPackSets(core.pages, [
    { name: 'a', root: lost },
    { name: 'b', root: kept },
  ]))
    found.push('error' in need ? need.set : need.pack);
  expect(found).toEqual([lost?.pack, 'a', kept?.pack, name(2)]);
});
