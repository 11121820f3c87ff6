import type { Core } from './core.ts';
import { INDEX, packOfObject, PACKS } from './format/names.ts';
import { listPoints } from './read/point-reader.ts';
import type { StoreOptions } from './store/object-store.ts';

/** What a tenant keeps. One listing of points, packs and index segments each; every point's object is read. */
export interface RepositoryStats {
  readonly points: number;
  readonly damagedPoints: number;
  readonly machines: readonly {
    readonly machineId: string;
    readonly points: number;
    /** Sizes of the disks of its newest point. */
    readonly diskBytes: number;
    readonly newestMs: number;
  }[];
  readonly packs: { readonly count: number; readonly bytes: number };
  readonly indexSegments: { readonly count: number; readonly bytes: number };
}

/** Throws what the store throws: a listing that fails is not "nothing there". */
export async function repositoryStats(core: Core, options: StoreOptions = {}): Promise<RepositoryStats> {
  const machines = new Map<string, { points: number; diskBytes: number; newestMs: number }>();
  const points = await listPoints(core, undefined, options);
  for (const point of points) {
    if (point.state !== 'readable') continue;
    machines.set(point.machineId, {
      points: (machines.get(point.machineId)?.points ?? 0) + 1,
      diskBytes: point.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      newestMs: point.createdMs,
    });
  }
  const count = async (
    prefix: string,
    counts: (name: string) => boolean,
  ): Promise<{ count: number; bytes: number }> => {
    const sum = { count: 0, bytes: 0 };
    for await (const { name, sizeBytes } of core.store.list(prefix, options)) {
      if (!counts(name)) continue;
      sum.count++;
      sum.bytes += sizeBytes;
    }
    return sum;
  };
  return {
    points: points.length,
    damagedPoints: points.filter(({ state }) => state === 'damaged').length,
    machines: [...machines].map(([machineId, machine]) => ({ machineId, ...machine })),
    packs: await count(PACKS, (name) => packOfObject(name) !== undefined),
    indexSegments: await count(INDEX, () => true),
  };
}
