import type { Core } from '../core.ts';
import { plainName } from '../seal/control-records.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';

/** The names under a prefix, all of them. A listing that fails is an error, and never "no more". */
export async function listAll(core: Core, prefix: string, options: StoreOptions = {}): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const name of listNames(core.store, prefix, options)) names.push(name);
  } catch (error) {
    if (core.rules.refuseFailedListing) throw error;
  }
  return names;
}

export interface Records {
  /** The name that means something ─► the name the object has. */
  readonly ours: ReadonlyMap<string, string>;
  /** What others put there. It means nothing. */
  readonly foreign: readonly string[];
}

/** Records under a prefix of control/, or entries of the retention ledger, told from what is not ours by their names alone. */
export async function listRecords(core: Core, prefix: string, options: StoreOptions = {}): Promise<Records> {
  return sortRecords(core, await listAll(core, prefix, options));
}

export function sortRecords(core: Core, names: Iterable<string>): Records {
  const ours = new Map<string, string>();
  const foreign: string[] = [];
  for (const name of names) {
    const plain = plainName(core, name);
    if (plain === undefined) foreign.push(name);
    else ours.set(plain, name);
  }
  if (foreign.length > 0)
    core.log.error('objects that are not ours lie among the records; they are ignored', {
      objects: foreign.length,
      first: foreign[0],
    });
  return { ours, foreign };
}
