import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { fileTypes, readCpio, writeCpio, type CpioEntry } from './cpio.ts';

const name = fc.stringMatching(/^[a-z0-9_.ä-]{1,40}$/).filter((text) => !/^\.+$/.test(text));
const entry: fc.Arbitrary<CpioEntry> = fc
  .record({
    path: fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')),
    mode: fc.constantFrom(
      fileTypes.file | 0o644,
      fileTypes.file | 0o755,
      fileTypes.directory | 0o755,
      fileTypes.symlink | 0o777,
    ),
    content: fc.uint8Array({ maxLength: 300 }),
  })
  .map((made) =>
    (made.mode & fileTypes.mask) === fileTypes.directory ? { ...made, content: new Uint8Array() } : made,
  );
const entries = fc.uniqueArray(entry, { maxLength: 12, selector: ({ path }) => path });
const stamp = { mtimeSeconds: 1_700_000_000 };

const plain = (list: readonly CpioEntry[]) =>
  list.map(({ path, mode, content }) => ({ path, mode, content: Buffer.from(content).toString('hex') }));

describe('newc archives', () => {
  it('come back as they were written, from any multiple of four', () => {
    fc.assert(
      fc.property(entries, fc.integer({ min: 0, max: 5 }), (list, words) => {
        const archive = writeCpio(list, stamp);
        expect(archive.length % 512).toBe(0);
        const found = readCpio(Buffer.concat([Buffer.alloc(words * 4), archive]), words * 4, 'test');
        expect(plain(found.entries)).toEqual(plain(list));
        expect(found.endBytes).toBeLessThanOrEqual(words * 4 + archive.length);
      }),
    );
  });

  it('are listed by cpio itself, with names, sizes and types', () => {
    fc.assert(
      fc.property(entries, (list) => {
        const listed = execFileSync('cpio', ['-tv', '--quiet', '-H', 'newc'], {
          input: writeCpio(
            list.filter((e) => (e.mode & fileTypes.mask) !== fileTypes.symlink),
            stamp,
          ),
          encoding: 'utf8',
        });
        const found = listed
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => {
            const [mode = '', , , , size, , , , path] = line.split(/\s+/);
            return { type: mode[0], size: Number(size), path };
          });
        const expected = list
          .filter((e) => (e.mode & fileTypes.mask) !== fileTypes.symlink)
          .map((e) => ({
            type: (e.mode & fileTypes.mask) === fileTypes.directory ? 'd' : '-',
            size: e.content.length,
            path: e.path,
          }));
        // cpio prints a name that is not ASCII as it is in this mode.
        expect(found).toEqual(expected);
      }),
      { numRuns: 20 },
    );
  });

  it('of equal input are equal', () => {
    const list = [{ path: 'a', mode: fileTypes.file | 0o644, content: Buffer.from('x') }];
    expect(writeCpio(list, stamp).equals(writeCpio(list, stamp))).toBe(true);
  });

  it('that are cut off or damaged end in a named error, or in entries within the bytes', () => {
    fc.assert(
      fc.property(entries, fc.nat(), fc.array(fc.nat(), { maxLength: 4 }), (list, cut, flips) => {
        const whole = writeCpio(list, stamp);
        const bytes = Buffer.from(whole.subarray(0, flips.length === 0 ? cut % whole.length : whole.length));
        for (const flip of flips) {
          const at = (flip >> 3) % bytes.length;
          bytes[at] = (bytes[at] ?? 0) ^ (1 << (flip & 7));
        }
        const outcome = attempt(bytes);
        expect(outcome === 'read' || outcome === 'guest.initrd-damaged').toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('without a trailer are cut off, whatever they announce', () => {
    const huge = Buffer.from(writeCpio([{ path: 'a', mode: fileTypes.file, content: new Uint8Array(8) }], stamp));
    huge.write('FFFFFFFF', 6 + 6 * 8, 'latin1');
    expect(attempt(huge)).toBe('guest.initrd-damaged');
    expect(attempt(Buffer.from('070701'))).toBe('guest.initrd-damaged');
    expect(attempt(Buffer.alloc(0))).toBe('guest.initrd-damaged');
  });
});

function attempt(bytes: Uint8Array): string {
  try {
    readCpio(bytes, 0, 'test');
    return 'read';
  } catch (error) {
    if (error instanceof LifeboatError) return error.code;
    throw error;
  }
}
