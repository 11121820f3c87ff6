import type { Core } from '../core.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** The names under a prefix, all of them. A listing that fails is an error, and never "no more". */
export async function listAll(core: Core, prefix: string, options: StoreOptions = {}): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of core.store.list(prefix, options)) names.push(name);
  } catch (error) {
    if (core.rules.refuseFailedListing) throw error;
  }
  return names;
}
