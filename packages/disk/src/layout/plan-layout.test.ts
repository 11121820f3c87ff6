import * as fc from 'fast-check';
import { GiB, KiB, MiB } from '@lifeboat/foundation/units';
import { describe, expect, test } from 'vitest';
import { partitionTypes, type Partition, type PartitionTable } from '../partition-table.ts';
import type { VolumeContent } from '../volume-content.ts';
import type { Filesystem } from '../volume-content/filesystem.ts';
import type { LayoutPlan, LayoutRequest, LayoutSource, SourceBoot } from './layout-plan.ts';
import { planLayout } from './plan-layout.ts';
import { renderLayout } from './render-layout.ts';

const SECTOR = 512;
const EXT4: Filesystem = { kind: 'filesystem', type: 'ext4', uuid: 'u', label: '', notes: [] };
const filesystem = (type: string, sizeBytes?: number): VolumeContent => ({
  ...EXT4,
  type,
  ...(sizeBytes === undefined ? {} : { sizeBytes }),
});

interface Given {
  readonly number: number;
  readonly start: number;
  readonly sectors: number;
  readonly type?: string;
  readonly content?: VolumeContent;
}

function source(
  scheme: 'mbr' | 'gpt',
  given: readonly Given[],
  options: { boot?: SourceBoot; sizeBytes?: number; table?: Partial<PartitionTable> } = {},
): LayoutSource {
  const logical = given.filter(({ number }) => scheme === 'mbr' && number > 4);
  const partitions = given.map((one): Partition => ({
    number: one.number,
    startBytes: one.start * SECTOR,
    lengthBytes: one.sectors * SECTOR,
    type: one.type ?? (scheme === 'gpt' ? partitionTypes.linuxFilesystem : '0x83'),
    role: scheme === 'gpt' ? 'gpt' : one.number > 4 ? 'logical' : 'primary',
    partitionId:
      scheme === 'gpt' ? `00000000-0000-4000-8000-${`${one.number}`.padStart(12, '0')}` : `deadbeef-0${one.number}`,
    name: '',
    bootable: scheme === 'mbr' && one.number === 1,
  }));
  if (logical.length > 0) {
    const start = (Math.min(...logical.map((one) => one.start)) - 63) * SECTOR;
    const end = Math.max(...logical.map((one) => one.start + one.sectors)) * SECTOR;
    partitions.push({
      ...(partitions[0] as Partition),
      number: 4,
      role: 'extended',
      type: '0x05',
      startBytes: start,
      lengthBytes: end - start,
      bootable: false,
    });
  }
  return {
    name: 'vda',
    sizeBytes: options.sizeBytes ?? 4 * GiB,
    table: {
      scheme,
      sectorBytes: 512,
      diskId: scheme === 'gpt' ? '11111111-2222-4333-8444-555555555555' : 'deadbeef',
      partitions,
      problems: [],
      ...options.table,
    },
    contents: new Map(given.map(({ number, content }) => [number, content ?? EXT4])),
    boot: options.boot ?? { loader: 'none' },
  };
}

const GRUB_GAP: SourceBoot = { loader: 'grub', core: { offsetBytes: 512, lengthBytes: 30 * KiB, place: 'gap' } };
const want = (more: Partial<LayoutRequest> = {}, sizeBytes = 4 * GiB): LayoutRequest => ({
  scheme: 'aligned',
  target: { sizeBytes, sectorBytes: 512 },
  firmware: 'same',
  ids: 'kept',
  ...more,
});
/** number: start in sectors, length in sectors. */
const places = (plan: ReturnType<typeof planLayout>): string[] =>
  plan.partitions.map(
    ({ number, startBytes, lengthBytes }) => `${number}: ${startBytes / SECTOR}+${lengthBytes / SECTOR}`,
  );
const codes = (plan: ReturnType<typeof planLayout>): string[] => plan.refusals.map(({ code }) => code);

/** As installers of 2008 left it: everything on cylinders, two logical partitions. */
const OLD = source(
  'mbr',
  [
    { number: 1, start: 63, sectors: 208_782 },
    { number: 5, start: 208_908, sectors: 1_000_125 },
    { number: 6, start: 1_209_096, sectors: 2_000_061, type: '0x82', content: filesystem('swap') },
  ],
  { boot: GRUB_GAP },
);

describe('planning a layout', () => {
  test('an MBR on cylinders with logical partitions is aligned, and stays an MBR with its ids', () => {
    const plan = planLayout(OLD, want());
    expect(plan.refusals).toEqual([]);
    expect(places(plan)).toEqual(['1: 2048+208782', '4: 210944+3005629', '5: 212992+1000125', '6: 1216512+2000061']);
    expect(plan).toMatchObject({ scheme: 'mbr', diskId: 'deadbeef', boot: { kind: 'move-core', offsetBytes: 512 } });
    expect(plan.warnings).toEqual([]);
  });

  test('and becomes a GPT with the same numbers, a place for GRUB, types of GPT and new ids', () => {
    const plan = planLayout(OLD, want({ scheme: 'gpt' }));
    expect(places(plan)).toEqual(['1: 2048+208782', '2: 64+1984', '5: 210944+1000125', '6: 1212416+2000061']);
    expect(plan.partitions.map(({ type }) => type)).toEqual([
      partitionTypes.linuxFilesystem,
      partitionTypes.biosBoot,
      partitionTypes.linuxFilesystem,
      '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f',
    ]);
    expect(plan.boot).toEqual({ kind: 'new-core', offsetBytes: 32 * KiB, roomBytes: 992 * KiB });
    expect(plan.diskId).toBeUndefined();
    expect(plan.warnings[0]).toContain('PARTUUID=');
  });

  test('for UEFI it gets an EFI system partition besides, in room that is free', () => {
    const plan = planLayout(OLD, want({ scheme: 'gpt', firmware: 'uefi' }));
    expect(plan.efiSystemPartition).toBe(3);
    expect(plan.partitions[2]).toMatchObject({ type: partitionTypes.efiSystem, lengthBytes: 100 * MiB });
    const one = source('mbr', [{ number: 1, start: 2048, sectors: (4 * GiB) / SECTOR - 4096 }], { boot: GRUB_GAP });
    expect(codes(planLayout(one, want({ scheme: 'gpt', firmware: 'uefi' })))).toEqual(['layout.target-too-small']);
    // The root gives way for it.
    const given = planLayout(one, want({ scheme: 'gpt', firmware: 'uefi', resize: 1 }));
    expect(given.refusals).toEqual([]);
    expect(given.partitions[0]).toMatchObject({ volume: { change: 'shrink', tool: 'ext' } });
    expect(given.partitions[2]?.startBytes).toBe(
      (given.partitions[0]?.startBytes ?? 0) + (given.partitions[0]?.lengthBytes ?? 0),
    );
  });

  test('one that is aligned already does not move; GRUB finds its core in its partition', () => {
    const gpt = source(
      'gpt',
      [
        {
          number: 1,
          start: 2048,
          sectors: 2048,
          type: partitionTypes.biosBoot,
          content: { kind: 'unknown', type: '' },
        },
        { number: 2, start: 4096, sectors: 1_000_000 },
      ],
      { boot: { loader: 'grub', core: { offsetBytes: MiB, lengthBytes: 50 * KiB, place: 'bios-boot-partition' } } },
    );
    for (const scheme of ['keep', 'aligned', 'gpt'] as const) {
      const plan = planLayout(gpt, want({ scheme }));
      expect(places(plan)).toEqual(['1: 2048+2048', '2: 4096+1000000']);
      expect(plan.boot).toEqual({ kind: 'move-core', offsetBytes: MiB });
    }
  });

  test('the last partition grows to the end, one in the middle up to what moves to the end', () => {
    const gpt = source('gpt', [
      { number: 1, start: 2048, sectors: 204_800 },
      {
        number: 2,
        start: 206_848,
        sectors: 204_800,
        type: '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f',
        content: filesystem('swap'),
      },
    ]);
    const last = planLayout(gpt, want({ resize: 'last' }));
    expect(codes(last)).toEqual(['layout.cannot-grow']);
    const first = planLayout(gpt, want({ resize: 1 }, GiB));
    expect(places(first)).toEqual(['1: 2048+1888256', '2: 1890304+204800']);
    expect(first.partitions[0]?.volume).toEqual({ change: 'grow', tool: 'ext' });
    expect(renderLayout(first).join('\n')).toContain('was 100 MiB; its filesystem grows with it');
  });

  test('a smaller target: refused, or the named one shrinks and gaps go', () => {
    const gpt = source('gpt', [
      { number: 1, start: 204_800, sectors: 204_800 },
      { number: 2, start: 2_048_000, sectors: 2_048_000 },
    ]);
    const small = 600 * MiB;
    expect(codes(planLayout(gpt, want({}, small)))).toEqual(['layout.target-too-small']);
    const plan = planLayout(gpt, want({ resize: 2 }, small));
    expect(places(plan)).toEqual(['1: 2048+204800', '2: 206848+1019904']);
    expect(plan.partitions[1]?.volume).toEqual({ change: 'shrink', tool: 'ext' });
    expect(codes(planLayout(gpt, want({ resize: 2 }, 101 * MiB)))).toEqual(['layout.target-too-small']);
  });

  test('only some partitions: logical ones are numbered anew, and it is said', () => {
    const plan = planLayout(OLD, want({ only: [1, 6] }));
    expect(plan.partitions.map(({ number, from }) => [number, from?.number])).toEqual([
      [1, 1],
      [4, undefined],
      [5, 6],
    ]);
    expect(plan.warnings.join()).toContain('Partition 6 becomes 5');
  });

  test('a copy beside its original gets new ids', () => {
    expect(planLayout(OLD, want({ ids: 'new' })).diskId).toBeUndefined();
  });

  test('what Windows needs that moved or got new ids is said', () => {
    const windows = source(
      'mbr',
      [{ number: 1, start: 63, sectors: 9000, type: '0x07', content: filesystem('ntfs') }],
      {
        boot: { loader: 'windows' },
      },
    );
    const said = (request: LayoutRequest) => planLayout(windows, request).warnings.join(' ');
    expect(said(want({ ids: 'kept' }))).toContain('must be repaired before it starts');
    expect(said(want({ scheme: 'keep', ids: 'kept' }))).toBe('');
    expect(said(want({ scheme: 'keep', ids: 'new' }))).toContain('by the ids that are not kept');
  });
});

describe('refused before anything is written', () => {
  const one = (content: VolumeContent, type = '0x83') =>
    source('mbr', [{ number: 1, start: 63, sectors: 2_097_152, type, content }]);
  const pv = { kind: 'physical-volume', type: 'LVM2_member', uuid: 'u', problems: [] } as VolumeContent;
  const md = { kind: 'array-member', type: 'linux_raid_member' } as VolumeContent;
  test.each<[string, LayoutSource, LayoutRequest, string]>([
    ['512 onto 4096', OLD, want({ target: { sizeBytes: 4 * GiB, sectorBytes: 4096 } }), 'layout.sector-size'],
    [
      '4096 onto 512',
      source('gpt', [{ number: 1, start: 2048, sectors: 8 }], { table: { sectorBytes: 4096 } }),
      want(),
      'layout.sector-size',
    ],
    ['no table', source('mbr', [], { table: { scheme: 'none' } }), want(), 'layout.no-table'],
    [
      'a damaged table',
      source('mbr', [{ number: 1, start: 63, sectors: 9 }], { table: { problems: ['the chain does not end'] } }),
      want(),
      'layout.no-table',
    ],
    [
      'overlapping partitions',
      source('gpt', [
        { number: 1, start: 2048, sectors: 9 },
        { number: 2, start: 2050, sectors: 9 },
      ]),
      want(),
      'layout.no-table',
    ],
    ['a dynamic disk', one(filesystem('ntfs'), '0x42'), want(), 'layout.dynamic-disk'],
    ['a partition that is not there', OLD, want({ only: [7] }), 'layout.no-such-partition'],
    ['the extended partition', OLD, want({ resize: 4 }), 'layout.no-such-partition'],
    ['resizing what stays behind', OLD, want({ only: [1], resize: 5 }), 'layout.no-such-partition'],
    ['nothing to bring', OLD, want({ only: [] }), 'layout.no-table'],
    ['a type GPT does not know', one(EXT4, '0xa9'), want({ scheme: 'gpt' }), 'layout.unsupported'],
    [
      'Windows by BIOS into a GPT',
      source('mbr', [{ number: 1, start: 63, sectors: 9000, type: '0x07', content: filesystem('ntfs') }], {
        boot: { loader: 'windows' },
      }),
      want({ scheme: 'gpt' }),
      'layout.unsupported',
    ],
    [
      'an unknown boot code into a GPT',
      source('mbr', [{ number: 1, start: 63, sectors: 9000 }], { boot: { loader: 'other' } }),
      want({ scheme: 'gpt' }),
      'layout.unsupported',
    ],
    ['UEFI from an MBR', OLD, want({ firmware: 'uefi' }), 'layout.unsupported'],
    [
      'GRUB without its partition',
      source(
        'gpt',
        [
          { number: 1, start: 2048, sectors: 2048, type: partitionTypes.biosBoot },
          { number: 2, start: 4096, sectors: 4096 },
        ],
        { boot: { loader: 'grub', core: { offsetBytes: MiB, lengthBytes: 9, place: 'bios-boot-partition' } } },
      ),
      want({ only: [2] }),
      'layout.no-such-partition',
    ],
    ['LVM to be shrunk', one(pv, '0x8e'), want({ resize: 1 }, GiB), 'layout.cannot-shrink'],
    ['XFS to be shrunk', one(filesystem('xfs', GiB)), want({ resize: 1 }, GiB), 'layout.cannot-shrink'],
    ['FAT to be shrunk', one(filesystem('vfat', GiB)), want({ resize: 1 }, GiB), 'layout.cannot-shrink'],
    ['MD to be grown', one(md, '0xfd'), want({ resize: 1 }), 'layout.cannot-grow'],
    ['something unknown to be grown', one({ kind: 'unknown', type: '' }), want({ resize: 1 }), 'layout.cannot-grow'],
    ['a partition between others that may not move', OLD, want({ scheme: 'keep', resize: 5 }), 'layout.cannot-grow'],
    ['too small', OLD, want({}, GiB), 'layout.target-too-small'],
    ['too small for what stays', OLD, want({ scheme: 'keep' }, GiB), 'layout.target-too-small'],
  ])('%s', (_, from, request, code) => {
    const plan = planLayout(from, request);
    expect(codes(plan)).toContain(code);
    expect(plan.partitions).toEqual([]);
    for (const { text } of plan.refusals) expect(text).toMatch(/^[A-Z].*\.$/);
  });

  test('LVM may grow, and it is said what remains to be done', () => {
    const plan = planLayout(one(pv, '0x8e'), want({ resize: 1 }));
    expect(plan.refusals).toEqual([]);
    expect(plan.warnings.join()).toContain('pvresize');
  });
});

test('whatever lies where, partitions come in their order, aligned, apart from each other and within the disk', () => {
  const given = fc
    .array(fc.tuple(fc.integer({ min: 63, max: 9000 }), fc.integer({ min: 1, max: 300_000 })), {
      minLength: 1,
      maxLength: 9,
    })
    .chain((runs) =>
      fc.record({
        runs: fc.constant(runs),
        scheme: fc.constantFrom('mbr' as const, 'gpt' as const),
        primary: fc.integer({ min: 0, max: 3 }),
      }),
    )
    .map(({ runs, scheme, primary }) => {
      let at = 63;
      const parts = runs.map(([gap, sectors], index) => {
        const start = at + gap;
        at = start + sectors;
        return { number: scheme === 'mbr' && index >= primary ? 5 + index - primary : index + 1, start, sectors };
      });
      return source(scheme, parts, { sizeBytes: (at + 100) * SECTOR });
    });
  const request = fc.record({
    scheme: fc.constantFrom('aligned' as const, 'gpt' as const),
    sizeMib: fc.integer({ min: 1, max: 2000 }),
    resize: fc.option(fc.constant('last' as const), { nil: undefined }),
    firmware: fc.constantFrom('same' as const, 'uefi' as const),
  });
  fc.assert(
    fc.property(given, request, (from, { scheme, sizeMib, resize, firmware }) => {
      const plan = planLayout(from, want({ scheme, firmware, ...(resize ? { resize } : {}) }, sizeMib * MiB));
      expect(violations(from, plan)).toEqual([]);
    }),
    { numRuns: 1000 },
  );
});

/** What every plan promises, and this one does not keep. */
function violations({ table }: LayoutSource, plan: LayoutPlan): string[] {
  if (plan.refusals.length > 0) return plan.partitions.length > 0 ? ['refused, and planned'] : [];
  const found: string[] = [];
  const must = (holds: boolean, what: string): void => void (holds || found.push(what));
  const data = plan.partitions
    .filter(({ role }) => role !== 'extended')
    .toSorted((a, b) => a.startBytes - b.startBytes);
  const brought = data.flatMap(({ from }) => (from ? [from] : []));
  must(
    brought.every(({ startBytes }, index) => startBytes >= (brought[index - 1]?.startBytes ?? 0)),
    'order',
  );
  must(brought.length === table.partitions.filter(({ role }) => role !== 'extended').length, 'all of them');
  const end = plan.scheme === 'gpt' ? plan.sizeBytes - 33 * SECTOR : plan.sizeBytes;
  let freeFrom = 0;
  for (const { startBytes, lengthBytes, from, volume, role } of data) {
    must(from === undefined || startBytes % MiB === 0, `${startBytes} on a boundary`);
    must(startBytes - (role === 'logical' ? MiB : 0) >= freeFrom, `${startBytes} behind what lies before`);
    must(from === undefined || volume !== undefined || lengthBytes === from.lengthBytes, 'length kept');
    freeFrom = startBytes + lengthBytes;
  }
  must(freeFrom <= end, 'within the disk');
  must(new Set(plan.partitions.map(({ number }) => number)).size === plan.partitions.length, 'numbers');
  return found;
}
