import { join } from 'node:path';
import { silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { serveNbd } from '@lifeboat/nbd/server';
import { MemoryDevice } from '@lifeboat/nbd/testing/memory-device';
import { PACKS } from '@lifeboat/repository/format/names';
import { decodePackHeader, kindOf } from '@lifeboat/repository/format/pack';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { noisyDisk, readDisk } from '@lifeboat/repository/testing/disks';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '@lifeboat/repository/testing/tiny';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '@lifeboat/foundation/units';
import type { WriterSession } from '@lifeboat/repository/write/session';
import { bytesOfChunks, captureDisk, unchangedRuns } from './capture-disk.ts';
import type { ParentDisk } from './parent.ts';
import { dirtyExport } from './testing/dirty-export.ts';

const CHUNK = 8;
const CHUNKS = 12;

interface Bytes {
  readonly kind: ('data' | 'hole')[];
  readonly dirty: boolean[];
}

/** Runs of equal values, as an export reports them; a run may be cut in two anywhere, as exports do. */
function runs<T>(
  values: readonly T[],
  cuts: ReadonlySet<number>,
): { offsetBytes: number; lengthBytes: number; value: T }[] {
  const found: { offsetBytes: number; lengthBytes: number; value: T }[] = [];
  for (const [offsetBytes, value] of values.entries()) {
    const last = found.at(-1);
    if (last && last.value === value && !cuts.has(offsetBytes)) last.lengthBytes++;
    else found.push({ offsetBytes, lengthBytes: 1, value });
  }
  return found;
}

const disk: fc.Arbitrary<Bytes> = fc.record({
  kind: fc
    .array(
      fc.tuple(fc.constantFrom('data' as const, 'data' as const, 'hole' as const), fc.integer({ min: 1, max: 30 })),
      { minLength: 1 },
    )
    .map((parts) => fill(parts, 'data' as const)),
  dirty: fc
    .array(fc.tuple(fc.constantFrom(false, false, true), fc.integer({ min: 1, max: 20 })), { minLength: 1 })
    .map((parts) => fill(parts, false)),
});

function fill<T>(parts: readonly (readonly [T, number])[], rest: T): T[] {
  const values = parts.flatMap(([value, count]) => Array.from({ length: count }, () => value));
  return Array.from({ length: CHUNK * CHUNKS }, (_, i) => values[i] ?? rest);
}

describe('unchangedRuns', () => {
  it('names just the chunks that are all data and nowhere dirty', () => {
    fc.assert(
      fc.property(disk, fc.uniqueArray(fc.nat(CHUNK * CHUNKS)), (bytes, cuts) => {
        const cut = new Set(cuts);
        const expected = Array.from({ length: CHUNKS }, (_, chunk) => chunk).filter((chunk) => {
          const from = chunk * CHUNK;
          return (
            bytes.kind.slice(from, from + CHUNK).every((kind) => kind === 'data') &&
            !bytes.dirty.slice(from, from + CHUNK).includes(true)
          );
        });
        const allocation = runs(bytes.kind, cut).map(({ value, ...range }) => ({ ...range, kind: value }));
        const dirty = runs(bytes.dirty, cut).filter(({ value }) => value);
        const found = unchangedRuns({ allocation, dirty, chunkSizeBytes: CHUNK });
        const chunks = found.flatMap(({ firstChunk, count }) =>
          Array.from({ length: count }, (_, i) => firstChunk + i),
        );
        expect(chunks).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('bytesOfChunks', () => {
  it('counts each touched chunk once, and the last one as short as it is', () => {
    fc.assert(
      fc.property(disk, fc.uniqueArray(fc.nat(CHUNK * CHUNKS)), fc.nat(CHUNK - 1), ({ dirty }, cuts, missing) => {
        const sizeBytes = CHUNK * CHUNKS - missing;
        const bytes = dirty.slice(0, sizeBytes);
        let expected = 0;
        for (let from = 0; from < sizeBytes; from += CHUNK) {
          const chunk = bytes.slice(from, from + CHUNK);
          if (chunk.includes(true)) expected += chunk.length;
        }
        const ranges = runs(bytes, new Set(cuts)).filter(({ value }) => value);
        expect(bytesOfChunks(ranges, { sizeBytes, chunkSizeBytes: CHUNK })).toBe(expected);
      }),
    );
  });
});

describe('captureDisk', () => {
  it('says what was touched by the bitmap, and what was read by the source: neither by the other', async () => {
    const exported = await dirtyExport();
    const root = {
      sizeBytes: exported.sizeBytes,
      chunkSizeBytes: MiB,
      map: 'hole',
      level: 0,
      packSet: 'none',
    } as never;
    // Its clients read everything, whatever it was asked for; its own count of chunks knows nothing of that.
    const session = {
      writeDisk: async () => ({ root, stats: { readBytes: MiB, sourceBytes: exported.sizeBytes, storedBytes: 7 } }),
      compare: async () => ({ mismatches: [], comparedChunks: 0, readBytes: 0, sourceBytes: 512 }),
      async *mapRuns() {},
    } as unknown as WriterSession;
    const captured = await captureDisk(
      { random: systemRandom, log: silentLog, chunkSizeBytes: MiB },
      { exported, session, parent: { root, doubt: '', sweepFromChunk: 0 } },
      { signal: new AbortController().signal, progress: () => {} },
    );
    expect(captured.disk).toMatchObject({
      method: 'incremental',
      changedBytes: 64 * KiB + 640 * KiB + 64 * KiB,
      touchedBytes: 3 * MiB + 100 * KiB,
      readBytes: exported.sizeBytes + 512,
      auditedBytes: 0,
    });
  });

  it('reads a disk in full when the map of its parent is damaged, and says so', async () => {
    const scratch = new Scratch();
    const content = noisyDisk(20, 1);
    const socketPath = join(scratch.directory(), 'nbd.sock');
    const device = new MemoryDevice(content);
    const exports = new Map([['vda', device]]);
    const server = await serveNbd({ socketPath, exports, log: silentLog });
    try {
      const store = new MemoryStore();
      await initTiny(store);
      const deps = { random: systemRandom, log: silentLog, chunkSizeBytes: TINY_CHUNK };
      const context = { signal: new AbortController().signal, progress: () => {} };
      const exported = {
        name: 'vda',
        sizeBytes: content.length,
        socketPath,
        exportName: 'vda',
        tracked: false,
        untrackedReason: '',
      };
      const backUp = async (n: number, parent?: ParentDisk) => {
        const repository = await openTiny(store);
        const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
        const captured = await captureDisk(deps, { exported, session, ...(parent ? { parent } : {}) }, context);
        const disks = [{ name: 'vda', root: captured.root }];
        await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks });
        return captured;
      };
      const { root } = await backUp(1);
      for (const [name, object] of store.objects) {
        if (!name.startsWith(PACKS) || kindOf(decodePackHeader(object, name).header) !== 'map') continue;
        store.objects.set(
          name,
          object.map((byte, at) => (at > 250 ? byte ^ 1 : byte)),
        );
      }
      device.bytesRead = 0;
      const { disk } = await backUp(2, { root, doubt: '', sweepFromChunk: 0 });
      expect(disk).toMatchObject({
        method: 'full',
        storedBytes: 0,
        reason: expect.stringMatching(/^the map of the recovery point before is damaged: /) as string,
      });
      // The attempt that went by the parent read, too; some of what it asked for nobody waited for.
      expect(device.bytesRead).toBeGreaterThan(content.length);
      expect(disk.readBytes).toBeGreaterThanOrEqual(device.bytesRead);
      expect(await readDisk(await openTiny(store), MACHINE, pointId(2))).toEqual(content);
    } finally {
      await server.close();
      await scratch.remove();
    }
  });
});
