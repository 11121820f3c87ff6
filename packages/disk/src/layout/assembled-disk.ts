/**
 * A disk put together from runs of others and from bytes, to be read like any disk; what no part covers reads as zeros. So a
 * restore onto another layout is a copy like every other, through the same code.
 */
import { assertWithin, type BlockDevice, type Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

export type DiskPart =
  | { readonly offsetBytes: number; readonly bytes: Uint8Array }
  /** `lengthBytes` of `device` from `at` on. */
  | { readonly offsetBytes: number; readonly lengthBytes: number; readonly device: BlockDevice; readonly at: number };

interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly part: DiskPart | undefined;
}

/** `parts`: of two that overlap the later one counts. Closing it closes none of their devices. */
export function assembledDisk(sizeBytes: number, parts: readonly DiskPart[]): BlockDevice {
  let runs: Run[] = [{ offsetBytes: 0, lengthBytes: sizeBytes, part: undefined }];
  for (const part of parts) runs = lay(runs, part, sizeBytes);

  /** Those that meet a range, cut to it. */
  function* within(offsetBytes: number, lengthBytes: number): Generator<Run> {
    const end = offsetBytes + lengthBytes;
    for (let index = firstRun(runs, offsetBytes); index < runs.length; index += 1) {
      const run = runs[index] as Run;
      if (run.offsetBytes >= end) return;
      const from = Math.max(run.offsetBytes, offsetBytes);
      const to = Math.min(run.offsetBytes + run.lengthBytes, end);
      if (to > from) yield { offsetBytes: from, lengthBytes: to - from, part: run.part };
    }
  }
  return {
    sizeBytes,
    async read(offsetBytes, target, options) {
      assertWithin(sizeBytes, { offsetBytes, lengthBytes: target.length }, 'read of an assembled disk');
      for (const run of within(offsetBytes, target.length)) {
        const into = target.subarray(run.offsetBytes - offsetBytes, run.offsetBytes - offsetBytes + run.lengthBytes);
        const { part } = run;
        if (!part) into.fill(0);
        else if ('bytes' in part)
          into.set(part.bytes.subarray(run.offsetBytes - part.offsetBytes).subarray(0, into.length));
        else await part.device.read(part.at + run.offsetBytes - part.offsetBytes, into, options);
      }
    },
    async extents(range, options) {
      assertWithin(sizeBytes, range, 'extents of an assembled disk');
      const extents: Extent[] = [];
      for (const { part, offsetBytes, lengthBytes } of within(range.offsetBytes, range.lengthBytes)) {
        if (!part) extents.push({ offsetBytes, lengthBytes, kind: 'hole' });
        else if ('bytes' in part) extents.push({ offsetBytes, lengthBytes, kind: 'data' });
        else {
          const shift = part.offsetBytes - part.at;
          const below = await part.device.extents({ offsetBytes: offsetBytes - shift, lengthBytes }, options);
          extents.push(...below.map((extent) => ({ ...extent, offsetBytes: extent.offsetBytes + shift })));
        }
      }
      return extents;
    },
    close: async () => {},
  };
}

function lay(runs: readonly Run[], part: DiskPart, sizeBytes: number): Run[] {
  const { offsetBytes } = part;
  const lengthBytes = 'bytes' in part ? part.bytes.length : part.lengthBytes;
  if (offsetBytes < 0 || offsetBytes + lengthBytes > sizeBytes) {
    throw new LifeboatError(
      'internal.bug',
      `${lengthBytes} bytes at ${offsetBytes} do not lie on a disk of ${sizeBytes} bytes`,
    );
  }
  if (lengthBytes === 0) return [...runs];
  const end = offsetBytes + lengthBytes;
  const rest = runs.flatMap((run): Run[] => {
    const runEnd = run.offsetBytes + run.lengthBytes;
    const before = Math.min(runEnd, offsetBytes) - run.offsetBytes;
    const behind = runEnd - Math.max(run.offsetBytes, end);
    return [
      ...(before > 0 ? [{ ...run, lengthBytes: before }] : []),
      ...(behind > 0 ? [{ ...run, offsetBytes: runEnd - behind, lengthBytes: behind }] : []),
    ];
  });
  return [...rest, { offsetBytes, lengthBytes, part }].toSorted((a, b) => a.offsetBytes - b.offsetBytes);
}

/** Index of the run that holds this byte. */
function firstRun(runs: readonly Run[], offsetBytes: number): number {
  let low = 0;
  let high = runs.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((runs[middle] as Run).offsetBytes <= offsetBytes) low = middle;
    else high = middle;
  }
  return low;
}
