import { describe, expect, test } from 'vitest';
import { isBlueScreen } from './blue-screen.ts';
import type { Image } from './image.ts';

type Colour = readonly [number, number, number];
const WHITE: Colour = [255, 255, 255];

/** A picture of one colour with rectangles on it; all in parts of width and height. */
function picture(
  background: Colour,
  marks: readonly (readonly [left: number, top: number, width: number, height: number, colour?: Colour])[],
  [width, height] = [1024, 768],
): Image {
  const rgb = new Uint8Array(width * height * 3);
  const fill = (left: number, top: number, right: number, bottom: number, colour: Colour): void => {
    for (let y = top; y < bottom; y += 1) for (let x = left; x < right; x += 1) rgb.set(colour, (y * width + x) * 3);
  };
  fill(0, 0, width, height, background);
  for (const [left, top, wide, high, colour = WHITE] of marks) {
    const [x, y] = [Math.round(left * width), Math.round(top * height)];
    fill(x, y, x + Math.max(1, Math.round(wide * width)), y + Math.max(1, Math.round(high * height)), colour);
  }
  return { width, height, rgb };
}

const lines = (count: number, left: number, top: number, step: number) =>
  Array.from({ length: count }, (_, line) => [left, top + line * step, 0.55, 0.012] as const);
/** `:(` with its two dots and its arc, 0.12 high. */
const FACE = [
  [0.105, 0.2, 0.012, 0.02],
  [0.105, 0.28, 0.012, 0.02],
  [0.135, 0.17, 0.012, 0.15],
] as const;

describe('a blue screen', () => {
  test.each<[string, Image]>([
    [
      'of Windows 10 and 11',
      picture([0, 120, 215], [...FACE, ...lines(3, 0.105, 0.4, 0.04), ...lines(4, 0.17, 0.65, 0.025)]),
    ],
    ['of Windows 8', picture([16, 78, 159], [...FACE, ...lines(4, 0.105, 0.4, 0.04)])],
    ['of Windows 7', picture([0, 0, 130], lines(16, 0.0, 0.02, 0.05), [640, 480])],
    ['that was scaled down', picture([0, 120, 215], [...FACE, ...lines(4, 0.105, 0.4, 0.04)], [512, 384])],
  ])('%s', (_, image) => {
    expect(isBlueScreen(image)).toBe(true);
  });

  test.each<[string, Image]>([
    [
      'a blue desktop with icons',
      picture(
        [0, 120, 215],
        [
          [0.01, 0.02, 0.04, 0.06],
          [0.01, 0.12, 0.04, 0.06],
          [0, 0.95, 1, 0.05, [20, 20, 20]],
        ],
      ),
    ],
    [
      'a sign-in screen',
      picture(
        [0, 90, 158],
        [
          [0.44, 0.3, 0.12, 0.16],
          [0.4, 0.5, 0.2, 0.03],
          [0.42, 0.56, 0.16, 0.04],
        ],
      ),
    ],
    ['a wait for updates', picture([0, 99, 177], [[0.48, 0.4, 0.04, 0.05], ...lines(2, 0.3, 0.55, 0.04)])],
    [
      'a blue menu of a BIOS',
      picture([0, 0, 170], [[0, 0, 1, 0.05, [170, 170, 170]], ...lines(5, 0.1, 0.2, 0.06)], [640, 480]),
    ],
    ['nothing but blue', picture([0, 120, 215], [])],
    ['a black screen with a face', picture([0, 0, 0], FACE)],
    ['a photograph', picture([0, 120, 215], [[0, 0, 0.5, 1, [200, 180, 90]], ...FACE])],
  ])('is not %s', (_, image) => {
    expect(isBlueScreen(image)).toBe(false);
  });
});
