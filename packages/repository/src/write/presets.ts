/**
 * How hard a writer compresses. `fast`: level 1 of zstd, 325 MB/s a core. `small`: level 3, half as fast for 7 % less (measured
 * on chunks of 1 MiB of a system disk). Readers need not know.
 */
export const PRESETS = { fast: { zstdLevel: 1 }, small: { zstdLevel: 3 } } as const;
export type Preset = keyof typeof PRESETS;

export function isPreset(name: string): name is Preset {
  return Object.hasOwn(PRESETS, name);
}
