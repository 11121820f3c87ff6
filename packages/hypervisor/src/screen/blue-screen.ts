/**
 * Whether a picture is the blue screen of a Windows that stopped.
 *
 *   since 8     one flat colour; a large sad face near the left, nothing on its left; text below it
 *   up to 7     navy, 640 x 480; lines of white text that begin at the left edge
 *
 * By layout, not by the shade alone: desktops and sign-in screens are blue, too. In text mode the screen's text says it, see the findings of
 * a boot test. Not recognised: the black and green ones of later builds, unless they have the sad face.
 */
import type { Image } from './image.ts';

/** Share of pixels that are the background. What the text leaves free was 0.9 and more in the fixtures. */
const BACKGROUND_SHARE = 0.75;
/** How far channels may be apart: the picture may have been scaled, or sent as JPEG. */
const SAME_COLOUR = 24;
/** The sad face, as parts of the picture. */
const FACE = { left: 0.06, right: 0.35, top: 0.08, bottom: 0.5, height: 0.08 };
/** Lines of text that a stop of Windows up to 7 has at least. */
const OLD_LINES = 8;
const OLD_LEFT = 0.04;

export function isBlueScreen(image: Image): boolean {
  const background = backgroundOf(image);
  if (background === undefined || !isBlue(background)) return false;
  const ink = inkOf(image, background);
  return isNavy(background) ? hasOldText(image, ink) : hasFace(image, ink);
}

type Colour = readonly [red: number, green: number, blue: number];

/** The colour that most of the picture has. */
function backgroundOf({ width, height, rgb }: Image): Colour | undefined {
  const counts = new Map<number, number>();
  for (let at = 0; at < rgb.length; at += 3) {
    // The upper four bits of each channel.
    const key = (((rgb[at] ?? 0) >> 4) << 8) | (((rgb[at + 1] ?? 0) >> 4) << 4) | ((rgb[at + 2] ?? 0) >> 4);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const [most] = [...counts].toSorted((a, b) => b[1] - a[1]);
  if (most === undefined || most[1] < BACKGROUND_SHARE * width * height) return undefined;
  const [key] = most;
  return [((key >> 8) << 4) + 8, (((key >> 4) & 15) << 4) + 8, ((key & 15) << 4) + 8];
}

function isBlue([red, green, blue]: Colour): boolean {
  return blue >= 100 && blue >= 1.4 * green && blue >= 2 * red;
}

function isNavy([red, green]: Colour): boolean {
  return red < 32 && green < 32;
}

/** 1 for every pixel that is not background. */
function inkOf({ width, height, rgb }: Image, background: Colour): Uint8Array {
  const ink = new Uint8Array(width * height);
  for (let pixel = 0; pixel < ink.length; pixel += 1) {
    const differs = background.some(
      (value, channel) => Math.abs((rgb[pixel * 3 + channel] ?? 0) - value) > SAME_COLOUR,
    );
    ink[pixel] = differs ? 1 : 0;
  }
  return ink;
}

function hasFace({ width, height }: Image, ink: Uint8Array): boolean {
  const left = Math.floor(width * FACE.left);
  const within = { from: left, to: Math.floor(width * FACE.right) };
  const tall = runsOfRows({ width, height }, ink, within).filter(
    ({ from, to }) => to - from >= height * FACE.height && from >= height * FACE.top && to <= height * FACE.bottom,
  );
  // One face, and nothing on the left of anything.
  return tall.length === 1 && runsOfRows({ width, height }, ink, { from: 0, to: left }).length === 0;
}

function hasOldText({ width, height }: Image, ink: Uint8Array): boolean {
  return runsOfRows({ width, height }, ink, { from: 0, to: Math.ceil(width * OLD_LEFT) }).length >= OLD_LINES;
}

/** Rows of pixels, without a gap, that have ink between two columns. */
function runsOfRows(
  { width, height }: Pick<Image, 'width' | 'height'>,
  ink: Uint8Array,
  columns: { readonly from: number; readonly to: number },
): { readonly from: number; readonly to: number }[] {
  const runs: { from: number; to: number }[] = [];
  for (let row = 0; row < height; row += 1) {
    const start = row * width;
    if (!ink.subarray(start + columns.from, start + columns.to).includes(1)) continue;
    const last = runs.at(-1);
    if (last?.to === row) last.to = row + 1;
    else runs.push({ from: row, to: row + 1 });
  }
  return runs;
}
