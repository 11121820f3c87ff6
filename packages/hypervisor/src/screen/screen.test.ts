import zlib from 'node:zlib';
import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readImage, writePng, type Image } from './image.ts';
import { readTextScreen, TEXT_MEMORY_BYTES } from './text-screen.ts';

const image: fc.Arbitrary<Image> = fc
  .record({ width: fc.integer({ min: 1, max: 9 }), height: fc.integer({ min: 1, max: 9 }) })
  .chain(({ width, height }) =>
    fc
      .uint8Array({ minLength: width * height * 3, maxLength: width * height * 3 })
      .map((rgb) => ({ width, height, rgb })),
  );

function ppm({ width, height, rgb }: Image): Buffer {
  return Buffer.concat([Buffer.from(`P6\n# by a test\n${width} ${height}\n255\n`), rgb]);
}

function refused(bytes: Buffer): boolean {
  try {
    readImage(bytes);
    return false;
  } catch (error) {
    if (hasCode(error, 'hypervisor.no-screen')) return true;
    throw error;
  }
}

describe('screenshots', () => {
  test('PPM and PNG are the same picture', () => {
    fc.assert(
      fc.property(image, (value) => {
        const fromPpm = readImage(ppm(value));
        const fromPng = readImage(writePng(value));
        for (const read of [fromPpm, fromPng]) {
          expect([read.width, read.height]).toEqual([value.width, value.height]);
          expect(Buffer.from(read.rgb).equals(value.rgb)).toBe(true);
        }
      }),
    );
  });

  test('all row filters of PNG are undone', () => {
    // One pixel a row, each row filtered in another way: none, left, above, average, Paeth. By hand from the standard.
    const rows = [
      [0, 10, 20, 30],
      [1, 1, 1, 1],
      [2, 4, 5, 6],
      [3, 7, 8, 9],
      [4, 1, 2, 3],
    ];
    const expected = [10, 20, 30, 1, 1, 1, 5, 6, 7, 9, 11, 12, 10, 13, 15];
    const png = writePng({ width: 1, height: 5, rgb: new Uint8Array(15) });
    const data = zlib.deflateSync(Buffer.from(rows.flat()));
    const start = png.indexOf('IDAT') - 4;
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    const filtered = Buffer.concat([
      png.subarray(0, start),
      length,
      Buffer.from('IDAT'),
      data,
      Buffer.alloc(4),
      png.subarray(-12),
    ]);
    expect([...readImage(filtered).rgb]).toEqual(expected);
  });

  test('cut anywhere, or with a bit flipped, it is a picture or a refusal', () => {
    fc.assert(
      fc.property(image, fc.nat(), (value, at) => {
        const png = writePng(value);
        expect(refused(ppm(value).subarray(0, at % ppm(value).length))).toBe(true);
        expect([true, false]).toContain(refused(png.subarray(0, at % png.length)));
        png[at % png.length] = (png[at % png.length] ?? 0) ^ (1 << (at & 7));
        expect([true, false]).toContain(refused(png));
      }),
    );
  });

  test('a header that promises gigabytes is refused before they are allocated', () => {
    const png = writePng({ width: 1, height: 1, rgb: new Uint8Array(3) });
    png.writeUInt32BE(0xffff_ffff, 16);
    expect(refused(png)).toBe(true);
    expect(refused(Buffer.from('P6 99999 99999 255 '))).toBe(true);
  });
});

describe('the text screen', () => {
  /** A screen whose window begins at `origin` lines; each character leaves ink in one pixel of its cell. */
  function screen(lines: readonly string[], origin: number): { memory: Uint8Array; image: Image } {
    const memory = new Uint8Array(TEXT_MEMORY_BYTES);
    const rgb = new Uint8Array(720 * 400 * 3);
    for (let cell = 0; cell < memory.length / 2; cell += 1) memory.set([0x20, 0x07], cell * 2);
    lines.forEach((line, row) => {
      line.split('').forEach((letter, column) => {
        const cell = (origin + row) * 80 + column;
        memory[(cell * 2) % memory.length] = letter.charCodeAt(0);
        if (letter !== ' ') rgb[((row * 16 + 8) * 720 + column * 9 + 4) * 3] = 255;
      });
    });
    return { memory, image: { width: 720, height: 400, rgb } };
  }

  test.each([0, 1, 60, 150, 179])('is read where it is shown, %i lines into the memory', (origin) => {
    const lines = ['GRUB loading.', '', '  error: no such device', 'grub rescue> '];
    const { memory, image: shown } = screen(lines, origin);
    // Remains of what was scrolled away.
    if (origin > 0) memory.set(Buffer.from('o\u0007l\u0007d\u0007', 'latin1'), 0);
    expect(readTextScreen(memory, shown)).toBe('GRUB loading.\n\n  error: no such device\ngrub rescue>');
  });

  test('the adapter’s own characters are shown as what they look like', () => {
    const { memory, image: shown } = screen(['xxx'], 0);
    memory.set([0xc9, 0x07, 0xcd, 0x07, 0xbb, 0x07], 0);
    expect(readTextScreen(memory, shown)).toBe('╔═╗');
  });

  test('is empty in graphics modes, and on an empty screen', () => {
    const memory = new Uint8Array(TEXT_MEMORY_BYTES).fill(0x41);
    expect(readTextScreen(memory, { width: 1024, height: 768, rgb: new Uint8Array(0) })).toBe('');
    const { memory: blank, image: black } = screen([], 0);
    expect(readTextScreen(blank, black)).toBe('');
  });
});
