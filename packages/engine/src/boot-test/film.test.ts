import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { type Image, readImage } from '@lifeboat/hypervisor/screen/image';
import { Film } from './film.ts';

const SIZE = { width: 80, height: 50 };

/** A black screen with the first pixels white. */
function screen(white: number): Image {
  const rgb = new Uint8Array(SIZE.width * SIZE.height * 3);
  rgb.fill(255, 0, white * 3);
  return { ...SIZE, rgb };
}

describe('a film', () => {
  test('keeps a picture when the screen has become another, and always the last', async () => {
    const directory = await scratchDirectory();
    const film = new Film(directory);
    const seen = [0, 0, 100, 103, 500, 500];
    for (const [index, white] of seen.entries()) await film.show(screen(white), index * 4000);
    // 103 of 4000 pixels are 3 more than 100: a cursor.
    const paths = await film.end();
    expect(paths.map((path) => basename(path))).toEqual([
      'screen-00000s.png',
      'screen-00008s.png',
      'screen-00016s.png',
      'screen.png',
    ]);
    expect(readImage(readFileSync(paths.at(-1) ?? '')).rgb).toEqual(screen(500).rgb);
    expect(film.settledMs(20_000)).toBe(4000);
    expect(film.showsSomething()).toBe(true);
  });

  test('of a guest that changes all the time goes from beginning to end, in so many pictures', async () => {
    const directory = await scratchDirectory();
    const film = new Film(directory);
    for (let at = 0; at < 600; at += 2) await film.show(screen((at * 37) % 4000), at * 1000);
    const paths = await film.end();
    expect(paths.length).toBeLessThanOrEqual(9);
    expect(paths.length).toBeGreaterThan(4);
    expect(basename(paths[0] ?? '')).toBe('screen-00000s.png');
    expect(Number(/(\d+)s/.exec(paths.at(-2) ?? '')?.[1])).toBeGreaterThan(300);
    expect(readdirSync(directory)).toHaveLength(paths.length);
  });

  test('of a guest that shows nothing says so', async () => {
    const film = new Film(await scratchDirectory());
    expect(film.showsSomething()).toBe(false);
    expect(await film.end()).toEqual([]);
    await film.show(screen(3), 0);
    expect(film.showsSomething()).toBe(false);
  });
});
