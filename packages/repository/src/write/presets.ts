/**
 * How hard a writer compresses, as levels of zstd. Readers need not know. Measured on chunks of 1 MiB of a system disk, one core:
 *
 * | level | MB/s | bytes, to level 1 |
 * |---|---|---|
 * | 1 (`fast`) | 620 | 1 |
 * | 3 | 415 | 0.950 |
 * | 5 | 205 | 0.932 |
 * | 6 (`small`) | 158 | 0.920 |
 * | 7 | 144 | 0.917 |
 *
 * 6 is the first that stores as little as programs that cut chunks by content (bench repo-full), and is faster than they are.
 */
export const PRESETS = { fast: { zstdLevel: 1 }, small: { zstdLevel: 6 } } as const;
export type Preset = keyof typeof PRESETS;

export function isPreset(name: string): name is Preset {
  return Object.hasOwn(PRESETS, name);
}
