/** Where packs that are needed have moved to: what a relocation leads to is needed as long as the pack it leads from. */
import type { Core } from '../core.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import { relocationIdOf, RELOCATIONS, type PackName } from '../format/names.ts';
import { targetPacks } from '../format/relocation.ts';
import { openRelocation } from '../read/relocations.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { listAll } from './listing.ts';
import type { PackNames } from './pack-names.ts';

/** Names of relocations by the pack they lead from. About 200 bytes for each in memory. */
export type RelocationNames = ReadonlyMap<PackName, readonly string[]>;

export async function listRelocations(core: Core, options: StoreOptions = {}): Promise<RelocationNames> {
  const bySource = new Map<PackName, string[]>();
  for (const name of await listAll(core, RELOCATIONS, options)) {
    const source = name.slice(0, name.lastIndexOf('/')).slice(-64) as PackName;
    const names = bySource.get(source);
    if (names) names.push(name);
    else bySource.set(source, [name]);
  }
  return bySource;
}

/**
 * Adds to `live` what relocations of live packs lead to, from pack to pack. Throws `repository.object-damaged` for one that cannot be
 * read: then what it leads to is not known.
 */
export async function markRelocated(
  core: Core,
  relocations: RelocationNames,
  live: PackNames,
  options: StoreOptions = {},
): Promise<void> {
  const pending = new Map(relocations);
  for (let found = true; found;) {
    found = false;
    for (const [pack, names] of pending) {
      if (!live.has(pack)) continue;
      pending.delete(pack);
      found = true;
      for (const name of names) for (const target of await packsLedTo(core, { pack, name }, options)) live.add(target);
    }
  }
}

/** Packs that the relocation `name` leads to from `pack`. Throws `repository.object-damaged` and the like where it cannot be read. */
export async function packsLedTo(
  core: Core,
  { pack, name }: { readonly pack: PackName; readonly name: string },
  options: StoreOptions = {},
): Promise<PackName[]> {
  const object = await core.store.get(name, { ...options, maxBytes: MAX_RELOCATION_BYTES });
  const { statement } = openRelocation(core, object, { pack, relocationId: relocationIdOf(name) }, name);
  return targetPacks(statement).map((target) => target.pack);
}
