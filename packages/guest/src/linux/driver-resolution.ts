/** From what the hardware asks for to the module files a kernel needs. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { globMatches } from './glob.ts';
import { normalModuleName } from './module-name.ts';
import type { ModuleTables } from './module-tables.ts';
import type { ModaliasRequest } from '../profile/modalias.ts';

export interface ResolvedRequest extends ModaliasRequest {
  /** Modules that announce the modalias, in the table's order; empty: no driver. */
  readonly modules: readonly string[];
}

export interface DriverResolution {
  readonly requests: readonly ResolvedRequest[];
  /** Names of all modules to have in the initrd, dependencies first, without those built into the kernel. */
  readonly closure: readonly string[];
  /** Dependencies that exist neither as a file nor in the kernel: `module needs missing`. */
  readonly missing: readonly string[];
}

/** modules.dep lists indirect dependencies too, so real chains are short. */
const MAX_CHAIN = 500;

/** Pure. Errors: `guest.module-tables-damaged`. Every module that announces a modalias is taken, as udev would load them all. */
export function resolveDrivers(tables: ModuleTables, requests: readonly ModaliasRequest[]): DriverResolution {
  const builtin = new Set(tables.builtin);
  const resolved = requests.map((request) => ({ ...request, modules: driversFor(tables, request.modalias) }));
  const closure = new Set<string>();
  const missing: string[] = [];
  const visiting = new Set<string>();

  const add = (name: string, neededBy: string | undefined): void => {
    if (builtin.has(name) || closure.has(name) || visiting.has(name)) return;
    const module = tables.modules[name];
    if (module === undefined) {
      missing.push(neededBy === undefined ? name : `${neededBy} needs ${name}`);
      return;
    }
    if (visiting.size > MAX_CHAIN) {
      throw new LifeboatError('guest.module-tables-damaged', `${name} stands at the end of ${MAX_CHAIN} dependencies`);
    }
    visiting.add(name);
    // modules.dep lists the nearest first; what is loaded first comes last.
    for (const dependency of module.dependencies.toReversed()) add(dependency, name);
    closure.add(name);
    visiting.delete(name);
    // A soft dependency that does not exist is no error, in modprobe neither.
    for (const soft of module.softDependencies) for (const real of namesBehind(tables, builtin, soft)) add(real, name);
  };
  for (const request of resolved) for (const name of request.modules) add(name, undefined);
  return { requests: resolved, closure: [...closure], missing };
}

function driversFor(tables: ModuleTables, request: string): string[] {
  const modalias = normalModuleName(request);
  // Nearly all patterns fall at the literal start, which is cheaper than matching.
  const found = new Set<string>();
  for (const [pattern, module] of tables.aliases) {
    const wildcard = pattern.search(/[*?[\\]/);
    const literal = wildcard < 0 ? pattern : pattern.slice(0, wildcard);
    if (modalias.startsWith(literal) && globMatches(pattern, modalias)) found.add(module);
  }
  return [...found];
}

function namesBehind(tables: ModuleTables, builtin: ReadonlySet<string>, nameOrAlias: string): string[] {
  if (builtin.has(nameOrAlias)) return [];
  if (tables.modules[nameOrAlias] !== undefined) return [nameOrAlias];
  return driversFor(tables, nameOrAlias).filter((name) => tables.modules[name] !== undefined);
}
