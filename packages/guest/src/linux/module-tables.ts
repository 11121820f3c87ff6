/**
 * What depmod wrote about a kernel's modules, reduced to what any redeploy plan can ask for.
 *
 *   modules.alias            modalias pattern ─► module          (built-in ones: modules.builtin.modinfo)
 *   modules.dep              module file ─► files it needs
 *   modules.softdep          module ─► modules to load before or after, if they exist
 *   modules.builtin          modules inside the kernel image
 *
 * Kept are the aliases of the buses that disks and network cards hang on, and all that is reachable from them, so the
 * result (some 400 KB of JSON for a Debian kernel) travels with an inspection and a plan needs no disk.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { moduleNameOf, normalModuleName } from './module-name.ts';

export interface ModuleTablesText {
  readonly alias: string;
  readonly dep: string;
  readonly softdep: string;
  readonly builtin: string;
  /** NUL-separated `module.key=value`; empty for kernels before 5.2. */
  readonly builtinModinfo: string;
}

export interface KernelModule {
  /** Relative to /lib/modules/<version>. */
  readonly path: string;
  /** Names of the modules that must be loaded before; direct and indirect, as modules.dep lists them. */
  readonly dependencies: readonly string[];
  /** Names or aliases that should be loaded too if they exist. */
  readonly softDependencies: readonly string[];
}

export interface ModuleTables {
  readonly modules: Readonly<Record<string, KernelModule>>;
  readonly builtin: readonly string[];
  /** Pattern and module, both with `-` as `_` (as kmod compares them), in the file's order. */
  readonly aliases: readonly (readonly [pattern: string, module: string])[];
}

/** Buses under which a disk or a network card is found. */
const BUSES = ['pci:', 'virtio:', 'scsi:', 'vmbus:', 'xen:', 'nvme:'];
/**
 * What drivers that distributions build in are for. Kernels before 6.18 leave it out of modules.builtin.modinfo (seen with Debian 13,
 * which builds virtio_pci in). Source: the drivers' own tables of devices.
 */
const BUILT_IN_DEVICES: Readonly<Record<string, string>> = {
  virtio_pci: 'pci:v00001AF4d*sv*sd*bc*sc*i*',
  ahci: 'pci:v*d*sv*sd*bc01sc06i01*',
  nvme: 'pci:v*d*sv*sd*bc01sc08i02*',
};
/** A damaged or hostile table must not occupy us; Debian 12 has 26 000 aliases and 4000 modules. */
const MAX_LINES = 500_000;

/** Errors: `guest.module-tables-damaged`. */
export function parseModuleTables(text: ModuleTablesText, where: string): ModuleTables {
  const dep = parseDep(lines(text.dep, `${where}/modules.dep`), where);
  const soft = parseSoftdep(lines(text.softdep, `${where}/modules.softdep`));
  const builtin = new Set(lines(text.builtin, `${where}/modules.builtin`).map(moduleNameOf));
  const wantedNames = new Set([...soft.values()].flat());

  const aliases: [string, string][] = [];
  for (const line of lines(text.alias, `${where}/modules.alias`)) {
    const [keyword, pattern, module] = line.split(/\s+/);
    if (keyword !== 'alias' || pattern === undefined || module === undefined) continue;
    if (isWanted(pattern, wantedNames)) aliases.push([normalModuleName(pattern), normalModuleName(module)]);
  }
  for (const record of text.builtinModinfo.split('\0')) {
    const match = /^([^.=]+)\.alias=(.+)$/.exec(record);
    if (match?.[1] !== undefined && match[2] !== undefined && isWanted(match[2], wantedNames)) {
      aliases.push([normalModuleName(match[2]), normalModuleName(match[1])]);
    }
  }
  for (const [name, pattern] of Object.entries(BUILT_IN_DEVICES)) {
    if (builtin.has(name)) aliases.push([normalModuleName(pattern), name]);
  }
  return { modules: reachable(aliases, dep, soft), builtin: [...builtin].sort(), aliases };
}

function isWanted(pattern: string, wantedNames: ReadonlySet<string>): boolean {
  return BUSES.some((bus) => pattern.startsWith(bus)) || wantedNames.has(normalModuleName(pattern));
}

function parseDep(depLines: readonly string[], where: string): Map<string, { path: string; dependencies: string[] }> {
  const modules = new Map<string, { path: string; dependencies: string[] }>();
  for (const line of depLines) {
    const colon = line.indexOf(':');
    if (colon <= 0) {
      throw new LifeboatError(
        'guest.module-tables-damaged',
        `${where}/modules.dep: '${line.slice(0, 80)}' has no colon`,
        {
          context: { where },
        },
      );
    }
    const path = line.slice(0, colon);
    // A path decides which file is read from the guest and where it lands in the initrd.
    if (path.startsWith('/') || path.split('/').includes('..')) continue;
    const dependencies = line
      .slice(colon + 1)
      .split(/\s+/)
      .filter((part) => part !== '')
      .map(moduleNameOf);
    modules.set(moduleNameOf(path), { path, dependencies });
  }
  return modules;
}

function parseSoftdep(softLines: readonly string[]): Map<string, string[]> {
  const soft = new Map<string, string[]>();
  for (const line of softLines) {
    const [keyword, module, ...rest] = line.split(/\s+/);
    // Without `pre:` or `post:` modprobe ignores the names (the kernel's cifs has such a line).
    if (keyword !== 'softdep' || module === undefined || !/^(pre|post):$/.test(rest[0] ?? '')) continue;
    const names = rest.filter((word) => !/^(pre|post):$/.test(word)).map(normalModuleName);
    const key = normalModuleName(module);
    soft.set(key, [...(soft.get(key) ?? []), ...names]);
  }
  return soft;
}

function reachable(
  aliases: readonly (readonly [string, string])[],
  dep: ReadonlyMap<string, { path: string; dependencies: string[] }>,
  soft: ReadonlyMap<string, readonly string[]>,
): Record<string, KernelModule> {
  const modules: Record<string, KernelModule> = Object.create(null) as Record<string, KernelModule>;
  const queue = [...aliases.map(([, module]) => module), ...[...soft.values()].flat()];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const entry = dep.get(name);
    if (entry === undefined || modules[name] !== undefined) continue;
    const softDependencies = soft.get(name) ?? [];
    modules[name] = { ...entry, softDependencies };
    queue.push(...entry.dependencies, ...softDependencies);
  }
  return modules;
}

function lines(text: string, where: string): string[] {
  const all = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  if (all.length > MAX_LINES) {
    throw new LifeboatError(
      'guest.module-tables-damaged',
      `${where} has ${all.length} lines; at most ${MAX_LINES} are taken`,
      {
        context: { where },
      },
    );
  }
  return all;
}
