/** Compares chunks of a source with the ids in a map; nothing is stored, and no earlier data is opened. */
import type { VerbContext } from '@lifeboat/foundation/progress';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { Place } from '../format/blob-ref.ts';
import type { DiskRoot } from '../format/point.ts';
import type { MapReader } from '../read/map-reader.ts';
import { orAbort } from './or-abort.ts';
import type { PackOwner } from './pack-builder.ts';
import type { Sealer } from './sealer.ts';
import type { SourceSpec } from './source.ts';

export interface Comparison {
  /** Ascending. */
  readonly mismatches: number[];
  readonly comparedChunks: number;
  /** Of the chunks compared. */
  readonly readBytes: number;
  /** What was read for it as the source counted it. */
  readonly sourceBytes: number;
}

export async function compareChunks(input: {
  request: { readonly parent: DiskRoot; readonly source: SourceSpec; readonly chunkIndexes: readonly number[] };
  map: MapReader;
  sealer: Sealer;
  stripeChunks: number;
  owner: PackOwner;
  context: VerbContext;
}): Promise<Comparison> {
  const { request, map, sealer, stripeChunks, owner, context } = input;
  const abort = new AbortController();
  const signal = AbortSignal.any([context.signal, abort.signal]);
  const asked: { chunk: number; place: Place }[] = [];
  for (const chunk of [...new Set(request.chunkIndexes)].toSorted((a, b) => a - b)) {
    if (!Number.isInteger(chunk) || chunk < 0 || chunk >= map.chunkCount) {
      throw new LifeboatError('input.invalid', `chunk ${chunk} is not one of the ${map.chunkCount} chunks of the disk`);
    }
    const place = await map.place(chunk, { signal });
    if (typeof place !== 'string') asked.push({ chunk, place });
  }
  const totalBytes = asked.reduce((sum, { chunk }) => sum + map.chunkBytes(chunk), 0);
  const mismatches: number[] = [];
  let readBytes = 0;
  let sourceBytes = 0;
  let next = 0;
  const { sizeBytes, chunkSizeBytes } = request.parent;
  const config = { source: request.source, sizeBytes, chunkSizeBytes, stripeChunks, owner };
  const laneCount = Math.min(sealer.laneCount, Math.ceil(asked.length / stripeChunks));
  const lanes = Array.from({ length: laneCount }, async () => {
    const lane = await sealer.openLane(config);
    try {
      while (next < asked.length) {
        const stripe = asked.slice(next, next + stripeChunks);
        next += stripe.length;
        const ids = await orAbort(lane.hash(stripe.map(({ chunk }) => chunk)), signal);
        await orAbort(lane.store({ wanted: [] }), signal);
        for (const [i, { chunk, place }] of stripe.entries()) {
          if (typeof place === 'string' || place.id !== ids[i]) mismatches.push(chunk);
          readBytes += map.chunkBytes(chunk);
        }
        context.progress({ phase: 'compare', doneBytes: readBytes, totalBytes });
      }
    } catch (error) {
      abort.abort(error);
      throw error;
    } finally {
      const report = await lane.close();
      sourceBytes += report.sourceBytes;
    }
  });
  const outcomes = await Promise.allSettled(lanes);
  if (signal.aborted) throw signal.reason;
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return { mismatches: mismatches.toSorted((a, b) => a - b), comparedChunks: asked.length, readBytes, sourceBytes };
}
