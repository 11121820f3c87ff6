import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemUnpackers } from '../access/system-unpackers.ts';
import {
  ahciInitrdModules,
  buildInitrd,
  FAKE_VERSION,
  writeModuleTree,
  type FakeInitrd,
} from '../testing/fake-kernel.ts';
import { fileTypes, writeCpio } from './cpio.ts';
import { inspectInitrd } from './initrd.ts';
import { readInitrdSegments } from './initrd-segments.ts';
import { moduleNameOf } from './module-name.ts';

const unpackers = systemUnpackers(new AbortController().signal);
let base: string;
let tree: string;
let count = 0;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'initrd-'));
  tree = writeModuleTree(base);
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

function initrd(options: Partial<FakeInitrd> = {}): Buffer {
  count += 1;
  const work = join(base, `work${count}`);
  mkdirSync(work);
  return buildInitrd(tree, work, { modules: ahciInitrdModules, ...options });
}

const expected = ahciInitrdModules.map((name) => name.replaceAll('-', '_')).toSorted();
const more = (path: string) =>
  writeCpio([{ path, mode: fileTypes.file | 0o644, content: Buffer.from('x') }], { mtimeSeconds: 0 });
const aligned = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

describe('inspectInitrd', () => {
  it.each(['none', 'gzip', 'zstd', 'xz', 'lz4'] as const)(
    'finds microcode, content and an archive after it, with %s',
    async (compression) => {
      const plain = initrd({ compression });
      const found = await inspectInitrd(plain, 'initrd', unpackers);
      expect(found).toMatchObject({
        sizeBytes: plain.length,
        generator: 'initramfs-tools',
        modulesRoot: 'usr/lib/modules',
      });
      expect(found.problem).toBeUndefined();
      expect(found.archives.map((archive) => archive.compression)).toEqual(['none', compression]);
      expect((found.moduleFiles[FAKE_VERSION] ?? []).map(moduleNameOf).toSorted()).toEqual(expected);

      const late = `usr/lib/modules/${FAKE_VERSION}/kernel/late.ko`;
      const appended = await inspectInitrd(Buffer.concat([aligned(plain), more(late)]), 'initrd', unpackers);
      expect(appended.archives.map((archive) => archive.compression)).toEqual(['none', compression, 'none']);
      expect(appended.moduleFiles[FAKE_VERSION]).toContain('kernel/late.ko');
      expect(appended.archives[1]?.lengthBytes).toBe(found.archives[1]?.lengthBytes);
    },
  );

  it('tells who made it', async () => {
    const of = async (generator: NonNullable<FakeInitrd['generator']>) =>
      (await inspectInitrd(initrd({ generator }), 'initrd', unpackers)).generator;
    expect(await of('initramfs-tools')).toBe('initramfs-tools');
    expect(await of('dracut')).toBe('dracut');
    expect(await of('none')).toBe('unknown');
  });

  it('tells where modules live when /lib is no link', async () => {
    const found = await inspectInitrd(initrd({ usrMerged: false }), 'initrd', unpackers);
    expect(found.modulesRoot).toBe('lib/modules');
    expect((found.moduleFiles[FAKE_VERSION] ?? []).map(moduleNameOf).toSorted()).toEqual(expected);
  });

  it('takes several frames, several archives in one, and several compressions', async () => {
    const pieces = Buffer.concat([more('a'), more('b')]);
    const zstd = execFileSync('zstd', ['-q', '-c'], { input: pieces });
    const gzip = execFileSync('gzip', ['-c', '-N'], { input: more('c') });
    const segments = await readInitrdSegments(Buffer.concat([zstd, gzip, Buffer.alloc(7), zstd]), 'initrd', unpackers);
    expect(segments.flatMap((segment) => segment.entries.map((entry) => entry.path))).toEqual([
      'a',
      'b',
      'c',
      'a',
      'b',
    ]);
  });

  it('names what it cannot unpack instead of failing', async () => {
    const bzip2 = Buffer.concat([more('early'), Buffer.from('BZh91AY&SY')]);
    const found = await inspectInitrd(bzip2, '/boot/initrd', unpackers);
    expect(found.problem).toMatch(/^\/boot\/initrd: at byte 512 there is neither .* \(found 425a68393141\)$/);
    expect(found.generator).toBe('unknown');
  });

  it.each(['gzip', 'zstd', 'xz', 'lz4'] as const)('of truncated %s says so', async (compression) => {
    const whole = initrd({ compression, microcode: false });
    for (const keep of [0.3, 0.9]) {
      const found = await inspectInitrd(whole.subarray(0, Math.floor(whole.length * keep)), 'initrd', unpackers).catch(
        (error: unknown) => error,
      );
      expect(found).toMatchObject({ problem: expect.stringContaining('initrd') as string });
    }
  });

  it.each(['gzip', 'zstd', 'xz', 'lz4'] as const)('of %s with a damaged middle says so', async (compression) => {
    const bytes = initrd({ compression, microcode: false });
    const middle = Math.floor(bytes.length / 2);
    bytes.fill(0xee, middle, middle + 64);
    expect((await inspectInitrd(bytes, 'initrd', unpackers)).problem).toMatch(/^initrd/);
  });

  it('survives flipped bits and cuts', async () => {
    const sources = (['none', 'gzip', 'zstd'] as const).map((compression) => initrd({ compression }));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...sources),
        fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
        fc.nat(),
        async (source, flips, cut) => {
          const bytes = Buffer.from(cut % 2 === 0 ? source : source.subarray(0, cut % source.length));
          for (const flip of flips)
            if (bytes.length > 0)
              bytes[(flip >> 3) % bytes.length] = (bytes[(flip >> 3) % bytes.length] ?? 0) ^ (1 << (flip & 7));
          const found = await inspectInitrd(bytes, 'initrd', unpackers);
          expect(found.sizeBytes).toBe(bytes.length);
        },
      ),
      { numRuns: 150 },
    );
  });
});

it.each(['gzip', 'zstd', 'xz', 'lz4'] as const)('unpacking %s stops at its limit', async (tool) => {
  const MiB = 1024 * 1024;
  const level = { gzip: [], zstd: [], xz: ['-0'], lz4: ['-l'] }[tool];
  const bomb = execFileSync(tool, ['-q', '-c', ...level], {
    input: Buffer.alloc(32 * MiB),
  });
  const unpacking = readInitrdSegments(bomb, 'initrd', unpackers, { maxUnpackedBytes: 8 * MiB });
  await expect(unpacking).rejects.toMatchObject({ code: 'guest.initrd-damaged' });
});
