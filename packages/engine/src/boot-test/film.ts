/**
 * Pictures of a guest over time: a new one whenever the screen has become another, as many as evidence has room for.
 *
 * Full, every second one goes and the pace is halved, so that a guest that changes its screen all the time is shown from its beginning to
 * its end. The last picture is kept whatever it shows.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Image, writePng } from '@lifeboat/hypervisor/screen/image';

/** Evidence has room for 16 files; the others are console, packets, findings and the last picture. */
const MAX_PICTURES = 8;
const FIRST_PACE_MS = 3000;
/** A share of the pixels: a cursor that blinks is no other picture. */
const CHANGED_SHARE = 0.002;
/** How far a channel may be off. */
const SAME = 16;

export class Film {
  readonly #directory: string;
  #pictures: string[] = [];
  #paceMs = FIRST_PACE_MS;
  #keptAtMs = Number.NEGATIVE_INFINITY;
  #kept: Image | undefined;
  #last: Image | undefined;
  #settledSinceMs = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** `atMs` since power-on. */
  async show(image: Image, atMs: number): Promise<void> {
    if (this.#last === undefined || differs(this.#last, image)) this.#settledSinceMs = atMs;
    this.#last = image;
    if (atMs - this.#keptAtMs < this.#paceMs || (this.#kept && !differs(this.#kept, image))) return;
    if (this.#pictures.length === MAX_PICTURES) await this.#thinOut();
    const path = join(this.#directory, `screen-${String(Math.round(atMs / 1000)).padStart(5, '0')}s.png`);
    await writeFile(path, writePng(image));
    this.#pictures.push(path);
    [this.#kept, this.#keptAtMs] = [image, atMs];
  }

  /** How long the screen has not changed; 0 while there is none. */
  settledMs(nowMs: number): number {
    return this.#last === undefined ? 0 : nowMs - this.#settledSinceMs;
  }

  /** Whether there is a picture, and anything on it. */
  showsSomething(): boolean {
    return this.#last !== undefined && !isPlain(this.#last);
  }

  /** Paths by time; the last one, `screen.png`, is what was seen last. */
  async end(): Promise<string[]> {
    if (this.#last === undefined) return [];
    const path = join(this.#directory, 'screen.png');
    await writeFile(path, writePng(this.#last));
    return [...this.#pictures, path];
  }

  async #thinOut(): Promise<void> {
    const gone = this.#pictures.filter((_, index) => index % 2 === 1);
    this.#pictures = this.#pictures.filter((_, index) => index % 2 === 0);
    this.#paceMs *= 2;
    for (const path of gone) await rm(path, { force: true });
  }
}

function differs(a: Image, b: Image): boolean {
  if (a.width !== b.width || a.height !== b.height) return true;
  const limit = a.width * a.height * CHANGED_SHARE;
  let changed = 0;
  for (let pixel = 0; pixel < a.rgb.length; pixel += 3) {
    const isOther =
      Math.abs((a.rgb[pixel] ?? 0) - (b.rgb[pixel] ?? 0)) > SAME ||
      Math.abs((a.rgb[pixel + 1] ?? 0) - (b.rgb[pixel + 1] ?? 0)) > SAME ||
      Math.abs((a.rgb[pixel + 2] ?? 0) - (b.rgb[pixel + 2] ?? 0)) > SAME;
    if (isOther) changed += 1;
    if (changed > limit) return true;
  }
  return false;
}

/** One colour all over, a blinking cursor aside. */
function isPlain(image: Image): boolean {
  const { width, height, rgb } = image;
  const plain = new Uint8Array(rgb.length);
  for (let at = 0; at < plain.length; at += 3) plain.set(rgb.subarray(rgb.length - 3), at);
  return !differs({ width, height, rgb: plain }, image);
}
