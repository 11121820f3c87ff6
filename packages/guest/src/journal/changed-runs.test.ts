import type { Run } from '@lifeboat/disk/mapped-device';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changedRunsOf, type OpenedOverlay } from './changed-runs.ts';

const run = (offsetBytes: number, lengthBytes: number): Run => ({ offsetBytes, lengthBytes });
const own = (...allocated: Run[]): OpenedOverlay => ({ disk: { name: 'vda' }, changedPath: '/disk', allocated });
/** A volume whose byte 0 lies at `start` of vda, and of vdb too. */
const mirror = (start: number, ...allocated: Run[]): OpenedOverlay => ({
  changedPath: `/volume${start}`,
  locate: ({ offsetBytes, lengthBytes }) =>
    ['vda', 'vdb'].map((disk) => ({
      disk,
      offsetBytes: start + offsetBytes,
      lengthBytes,
      volumeOffsetBytes: offsetBytes,
    })),
  allocated,
});

describe('changedRunsOf', () => {
  it('puts what a volume changed where it lies, on each disk of a mirror', () => {
    const overlays = [own(run(0, 4096)), mirror(1_000_000, run(8192, 4096))];
    const ofVolume = { ...run(1_008_192, 4096), changedPath: '/volume1000000', changedOffsetBytes: 8192 };
    expect(changedRunsOf('vda', overlays)).toEqual([
      { ...run(0, 4096), changedPath: '/disk', changedOffsetBytes: 0 },
      ofVolume,
    ]);
    expect(changedRunsOf('vdb', overlays)).toEqual([ofVolume]);
  });

  it("believes the volume's overlay where a cluster of the disk's reaches into it", () => {
    const changed = changedRunsOf('vda', [own(run(4096, 8192)), mirror(10_240, run(0, 512), run(1024, 4096))]);
    expect(changed).toEqual([
      { ...run(4096, 6144), changedPath: '/disk', changedOffsetBytes: 4096 },
      { ...run(10_240, 512), changedPath: '/volume10240', changedOffsetBytes: 0 },
      { ...run(10_752, 512), changedPath: '/disk', changedOffsetBytes: 10_752 },
      { ...run(11_264, 4096), changedPath: '/volume10240', changedOffsetBytes: 1024 },
    ]);
  });

  it('never gives one byte twice, and every byte once that an overlay holds', () => {
    const runs = fc
      .array(fc.record({ gap: fc.nat({ max: 9 }), length: fc.integer({ min: 1, max: 9 }) }), { maxLength: 6 })
      .map((list) => {
        let at = 0;
        return list.map(({ gap, length }) => {
          const found = run(at + gap, length);
          at += gap + length;
          return found;
        });
      });
    fc.assert(
      fc.property(runs, runs, fc.nat({ max: 40 }), (disk, volume, start) => {
        const expected = new Map<number, string>();
        for (const { offsetBytes, lengthBytes } of disk)
          for (let at = 0; at < lengthBytes; at += 1) expected.set(offsetBytes + at, `/disk ${offsetBytes + at}`);
        for (const { offsetBytes, lengthBytes } of volume)
          for (let at = 0; at < lengthBytes; at += 1)
            expected.set(start + offsetBytes + at, `/volume${start} ${offsetBytes + at}`);
        const bytes = changedRunsOf('vda', [own(...disk), mirror(start, ...volume)]).flatMap((found) =>
          Array.from(
            { length: found.lengthBytes },
            (_, at) => [found.offsetBytes + at, `${found.changedPath} ${found.changedOffsetBytes + at}`] as const,
          ),
        );
        expect(bytes).toEqual([...expected].toSorted(([a], [b]) => a - b));
      }),
    );
  });

  it('refuses two volumes on the same bytes', () => {
    const overlays = [mirror(0, run(0, 4096)), mirror(4000, run(0, 4096))];
    expect(() => changedRunsOf('vda', overlays)).toThrow(/same bytes of vda, at 4000/);
  });
});
