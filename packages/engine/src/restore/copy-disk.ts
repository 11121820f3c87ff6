/** Copies what a point holds onto a target, many reads in flight. */
import type { BlockDevice, WritableBlockDevice } from '@lifeboat/foundation/block-device';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { MiB } from '@lifeboat/foundation/units';
import { discard } from '@lifeboat/repository/seal/discard';

/** One request; the repository's default chunk, so that no chunk is opened twice. */
const REQUEST_BYTES = MiB;
/** Requests in flight: fetches, threads and writes overlap. Also the memory of a copy: 16 MiB. */
const IN_FLIGHT = 16;

export interface CopyOptions {
  /** A new image reads as zeros already; an old one must be overwritten where the point has nothing. */
  readonly targetIsBlank: boolean;
  readonly name: string;
}

/** Bytes of data written. The target is durable when this resolves. */
export async function copyDisk(
  source: BlockDevice,
  target: WritableBlockDevice,
  options: CopyOptions,
  context: VerbContext,
): Promise<number> {
  const extents = await source.extents({ offsetBytes: 0, lengthBytes: source.sizeBytes }, { signal: context.signal });
  const data = extents.filter(({ kind }) => kind === 'data');
  const totalBytes = data.reduce((total, { lengthBytes }) => total + lengthBytes, 0);
  const failure = new AbortController();
  const signal = AbortSignal.any([context.signal, failure.signal]);
  let doneBytes = 0;

  function* pieces(): Generator<{ offsetBytes: number; lengthBytes: number }> {
    for (const extent of data) {
      const end = extent.offsetBytes + extent.lengthBytes;
      for (let offsetBytes = extent.offsetBytes; offsetBytes < end;) {
        // On the request grid, whatever the extent's start.
        const lengthBytes = Math.min(end - offsetBytes, REQUEST_BYTES - (offsetBytes % REQUEST_BYTES));
        yield { offsetBytes, lengthBytes };
        offsetBytes += lengthBytes;
      }
    }
  }
  const queue = pieces();

  async function fetch(offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    if (source.take) return source.take(offsetBytes, lengthBytes, { signal });
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    await source.read(offsetBytes, bytes, { signal });
    return bytes;
  }

  async function lane(): Promise<void> {
    for (const { offsetBytes, lengthBytes } of queue) {
      signal.throwIfAborted();
      const bytes = await fetch(offsetBytes, lengthBytes);
      await target.write(offsetBytes, bytes, { signal });
      // A gigabyte a second of buffers is nothing to leave to the garbage collector.
      discard(bytes);
      doneBytes += lengthBytes;
      context.progress({ phase: 'restore', doneBytes, totalBytes, detail: options.name });
    }
  }

  const lanes = Array.from({ length: IN_FLIGHT }, () =>
    lane().catch((error: unknown) => {
      failure.abort(error);
      throw error;
    }),
  );
  // All lanes end before an error leaves: nobody may write to the target after this function is over.
  const outcomes = await Promise.allSettled(lanes);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) throw failure.signal.reason ?? failed.reason;
  if (!options.targetIsBlank) {
    for (const { kind, offsetBytes, lengthBytes } of extents) {
      if (kind !== 'data') await target.writeZeros(offsetBytes, lengthBytes, { signal });
    }
  }
  await target.flush();
  return totalBytes;
}
