import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bufferSource, expandString, hexOf, makeDirty, makeHive, makeLog, rechecksum } from '../../testing/hives.ts';
import { marvin32 } from './marvin32.ts';
import { numberOf, RegistryHive, type RegistryKey, textOf, textsOf } from './registry-hive.ts';

const open = (hive: Buffer, logs: readonly Buffer[] = []): Promise<RegistryHive> =>
  RegistryHive.open({ hive: bufferSource(hive), logs: logs.map((log) => async () => log), what: 'SYSTEM' });

const many = Object.fromEntries(
  Array.from({ length: 600 }, (_, i) => [`ControlSet001\\Services\\service${i}`, { Start: `dword:0000000${i % 5}` }]),
);
const first = makeHive({
  Select: { Current: 'dword:00000001' },
  'ControlSet001\\Services\\disk': {
    Start: 'dword:00000000',
    ImagePath: expandString('\\SystemRoot\\System32\\drivers\\disk.sys'),
    '': '"default"',
    'Größe ≥': `hex(1):${hexOf(Buffer.from('Straße\0', 'utf16le'))}`,
    Ids: `hex(7):${hexOf(Buffer.from('a\0bc\0\0', 'utf16le'))}`,
    Blob: 'hex(3):00,ff,09,00,01',
    Nothing: 'hex(3):',
  },
  ...many,
});

describe('a hive that hivexregedit made', () => {
  it('gives every key and value', async () => {
    const hive = await open(first);
    expect(hive.replay).toBeUndefined();
    expect((await (await hive.root()).subkeys()).map(({ name }) => name).sort()).toEqual(['ControlSet001', 'Select']);
    expect(numberOf(await hive.value('select', 'CURRENT'))).toBe(1);
    const disk = (await hive.key('ControlSet001\\services\\DISK')) as RegistryKey;
    expect(textOf(await disk.value('ImagePath'))).toBe('\\SystemRoot\\System32\\drivers\\disk.sys');
    expect(textOf(await disk.value(''))).toBe('default');
    expect(textOf(await disk.value('größe ≥'))).toBe('Straße');
    expect(textsOf(await disk.value('Ids'))).toEqual(['a', 'bc']);
    expect((await disk.value('Blob'))?.data).toEqual(Buffer.from([0, 255, 9, 0, 1]));
    expect((await disk.value('Nothing'))?.data).toHaveLength(0);
    expect(await disk.values()).toHaveLength(7);
    expect(await hive.key('ControlSet001\\Services\\nothing')).toBeUndefined();
    const services = (await (await hive.key('ControlSet001\\Services'))?.subkeys()) ?? [];
    expect(services).toHaveLength(601);
    expect(numberOf(await hive.value('ControlSet001\\Services\\service599', 'Start'))).toBe(4);
    expect((await hive.content()).equals(first)).toBe(true);
  });

  it('may have values in pieces, as Windows writes what is larger than 16,344 bytes', async () => {
    const content = Buffer.from(Array.from({ length: 40_000 }, (_, i) => (i * i * 7) >> 8));
    const piece = (i: number): string => `hex(3):${hexOf(content.subarray(i * 16_344, (i + 1) * 16_344))}`;
    const mark = (text: string): string => `hex(3):${hexOf(Buffer.from(text.padEnd(12, '.')))}`;
    const tree = { p0: piece(0), p1: piece(1), p2: piece(2), head: mark('HEAD'), list: mark('LIST'), big: mark('BIG') };
    const hive = makeHive({ k: tree });
    const cellOf = (bytes: Buffer): number => hive.indexOf(bytes) - 4 - 4096;
    const [head, list] = ['HEAD', 'LIST'].map((text) => cellOf(Buffer.from(text.padEnd(12, '.')))) as [number, number];
    for (let i = 0; i < 3; i += 1) {
      const at = cellOf(content.subarray(i * 16_344, Math.min((i + 1) * 16_344, 40_000)));
      hive.writeUInt32LE(at, 4096 + list + 4 + i * 4);
    }
    hive.write('db', 4096 + head + 4, 'latin1');
    hive.writeUInt16LE(3, 4096 + head + 6);
    hive.writeUInt32LE(list, 4096 + head + 8);
    const value = hive.indexOf(Buffer.from('big')) - 20;
    hive.writeUInt32LE(40_000, value + 4);
    hive.writeUInt32LE(head, value + 8);
    expect((await (await open(hive)).value('k', 'big'))?.data.equals(content)).toBe(true);
  });

  it.each([
    ['a wrong checksum', (hive: Buffer) => hive.writeUInt8(1, 100), 'checksum'],
    ['another beginning', (hive: Buffer) => hive.write('regx', 'latin1'), 'does not begin'],
    ['less than it says', (hive: Buffer) => (hive.writeUInt32LE(1 << 26, 40), rechecksum(hive)), 'bytes of bins'],
  ])('with %s is refused', async (_, damage, problem) => {
    const hive = Buffer.from(first);
    damage(hive);
    await expect(open(hive)).rejects.toMatchObject({
      code: 'guest.hive-unreadable',
      message: expect.stringContaining(problem) as string,
    });
  });

  it('that is damaged or hostile gives values or a finding, never a hang', async () => {
    const flips = fc.array(
      fc.record({ at: fc.nat({ max: first.length - 4097 }), bits: fc.integer({ min: 1, max: 255 }) }),
      {
        minLength: 1,
        maxLength: 200,
      },
    );
    const bugs: unknown[] = [];
    await fc.assert(
      fc.asyncProperty(flips, async (list) => {
        const bytes = Buffer.from(first);
        for (const { at, bits } of list) bytes.writeUInt8(bytes.readUInt8(4096 + at) ^ bits, 4096 + at);
        try {
          await walk(await (await open(bytes)).root(), 3);
        } catch (error) {
          if (!hasCode(error, 'guest.hive-unreadable')) bugs.push(error);
        }
      }),
      { numRuns: 60 },
    );
    expect(bugs).toEqual([]);
  });
});

async function walk(key: RegistryKey, depth: number): Promise<void> {
  await key.values();
  if (depth === 0) return;
  for (const child of (await key.subkeys()).slice(0, 50)) await walk(child, depth - 1);
}

describe('a hive that was not written to its end', () => {
  const start = (hive: RegistryHive, name: string) =>
    hive.value(`ControlSet001\\Services\\${name}`, 'Start').then(numberOf);
  const second = makeHive({ 'ControlSet001\\Services\\service7': { Start: 'dword:00000000' } }, first);
  // So much that the hive grows.
  const third = makeHive(
    { 'ControlSet001\\Services\\new': { Start: 'dword:00000003', Blob: `hex(3):${hexOf(Buffer.alloc(12_000, 7))}` } },
    second,
  );
  const dirty = makeDirty(first);
  const sequence = dirty.readUInt32LE(8);
  const logs = [makeLog([second, third], sequence + 1), makeLog([first, second], sequence)];

  it('is read with what its logs hold, whichever of them is the earlier', async () => {
    expect(third.length).toBeGreaterThan(first.length);
    for (const order of [logs, logs.toReversed()]) {
      const hive = await open(dirty, order);
      expect(hive.replay?.entries).toBe(2);
      expect([await start(hive, 'service7'), await start(hive, 'new'), await start(hive, 'service8')]).toEqual([
        0, 3, 3,
      ]);
    }
  });

  it('is given whole, as Windows would have it in memory', async () => {
    const content = await (await open(dirty, logs)).content();
    expect(content.subarray(4096).equals(third.subarray(4096))).toBe(true);
    const again = await open(content);
    expect(again.replay).toBeUndefined();
    expect(await start(again, 'new')).toBe(3);
  });

  it('takes nothing from a log that was applied already, and stops where an entry is missing or damaged', async () => {
    const gap = [makeLog([second, third], sequence + 2), logs[1] as Buffer];
    expect((await open(dirty, gap)).replay?.entries).toBe(1);
    const torn = Buffer.from(makeLog([first, second, third], sequence));
    torn.writeUInt8(torn.readUInt8(torn.length - 1100) ^ 1, torn.length - 1100);
    const hive = await open(dirty, [torn]);
    expect([hive.replay?.entries, await start(hive, 'new')]).toEqual([1, undefined]);
    const stale = makeLog([second, third], sequence - 1);
    await expect(open(dirty, [stale])).rejects.toMatchObject({ code: 'guest.hive-dirty' });
  });

  it('is refused by name where there are no logs, or those of Windows before 8.1', async () => {
    await expect(open(dirty)).rejects.toMatchObject({
      code: 'guest.hive-dirty',
      message: expect.stringContaining('none') as string,
    });
    const old = Buffer.from(logs[1] as Buffer);
    old.writeUInt32LE(1, 28);
    rechecksum(old);
    await expect(open(dirty, [old])).rejects.toMatchObject({
      code: 'guest.hive-dirty',
      message: expect.stringContaining('before 8.1') as string,
    });
  });

  it('that is clean does not look at its logs', async () => {
    expect(await start(await open(first, logs), 'service7')).toBe(2);
  });
});

// Computed by another implementation (yarp), which was held against logs that Windows 10 wrote.
it.each([
  ['', 'b39efca403966e08'],
  ['a', '21a013c726f292f4'],
  ['abcdefgh', '253e0a1a576ba388'],
])('Marvin32 of "%s" is the one of the registry', (text, hash) => {
  expect(marvin32(Buffer.from(text)).toString(16)).toBe(hash);
});
