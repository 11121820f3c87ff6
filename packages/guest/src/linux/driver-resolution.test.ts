import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modaliasesOf } from '../profile/modalias.ts';
import { loadHardwareProfile } from '../profile/shipped-profiles.ts';
import { FAKE_VERSION, fakeModules, writeModuleTree } from '../testing/fake-kernel.ts';
import type { FakeModule } from '../testing/kernel-module.ts';
import { resolveDrivers } from './driver-resolution.ts';
import { moduleNameOf } from './module-name.ts';
import { parseModuleTables, type ModuleTables } from './module-tables.ts';

let root: string;
let tables: ModuleTables;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'modules-'));
  tables = tablesOf(writeModuleTree(root));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function tablesOf(tree: string): ModuleTables {
  const read = (name: string) => readFileSync(join(tree, name), 'utf8');
  return parseModuleTables(
    {
      alias: read('modules.alias'),
      dep: read('modules.dep'),
      softdep: read('modules.softdep'),
      builtin: read('modules.builtin'),
      builtinModinfo: read('modules.builtin.modinfo'),
    },
    tree,
  );
}

/** What modprobe would insert for an alias: the oracle. */
function insertedByModprobe(base: string, alias: string): string[] {
  const text = execFileSync('modprobe', ['-d', base, '-S', FAKE_VERSION, '--show-depends', alias], {
    encoding: 'utf8',
  });
  return text
    .split('\n')
    .flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? [])
    .map(moduleNameOf);
}

const request = (modalias: string) => ({ modalias, role: 'boot-storage', device: 'test' }) as const;

describe('resolveDrivers', () => {
  it.each([
    ['virtio-blk', ['virtio_pci', 'virtio_blk'], ['virtio_net']],
    ['virtio-scsi', ['virtio_pci', 'virtio_scsi', 'sd_mod'], ['virtio_net']],
    ['nvme', ['nvme'], ['e1000e']],
    ['ahci', ['ahci', 'sd_mod'], ['e1000e']],
  ])('finds for the profile %s what modprobe would load for each modalias', async (name, storage, network) => {
    const requests = modaliasesOf(await loadHardwareProfile(name));
    const found = resolveDrivers(tables, requests);
    const modulesFor = (role: string) => found.requests.filter((r) => r.role === role).flatMap((r) => r.modules);
    expect(modulesFor('boot-storage')).toEqual(storage);
    expect(modulesFor('network')).toEqual(expect.arrayContaining(network));
    const expected = new Set(requests.flatMap((r) => insertedByModprobe(root, r.modalias)));
    expect(new Set(found.closure)).toEqual(expected);
    expect(found.missing).toEqual([]);
  });

  it('puts every module after those it depends on', async () => {
    const { closure } = resolveDrivers(tables, modaliasesOf(await loadHardwareProfile('virtio-scsi')));
    for (const [index, name] of closure.entries()) {
      for (const dependency of tables.modules[name]?.dependencies ?? []) {
        expect(closure.indexOf(dependency)).toBeLessThan(index);
        expect(closure).toContain(dependency);
      }
    }
  });

  it('follows a soft dependency that is only an alias, and takes no other module', async () => {
    const { closure } = resolveDrivers(tables, [request('scsi:t-0x00')]);
    expect(closure.toSorted()).toEqual(
      ['crc_t10dif', 'crct10dif_common', 'crct10dif_generic', 'scsi_common', 'scsi_mod', 'sd_mod'].toSorted(),
    );
  });

  it('agrees with modprobe on random module trees', () => {
    const trees = fc.array(
      fc.record({
        aliases: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
        uses: fc.array(fc.nat(), { maxLength: 3 }),
        soft: fc.option(fc.nat()),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(trees, (list) => {
        const base = mkdtempSync(join(tmpdir(), 'modules-random-'));
        try {
          // Only earlier modules are used, so that there is no cycle, which depmod would reject.
          const modules: FakeModule[] = list.map(({ aliases, uses, soft }, index) => ({
            path: `kernel/m${index}${index % 2 === 0 ? '-x' : '_x'}.ko`,
            aliases: aliases.map((n) => `pci:v0000000${n}d*`),
            exports: [`symbol${index}`],
            uses: index === 0 ? [] : [...new Set(uses.map((n) => `symbol${n % index}`))],
            ...(soft === null || index === 0 ? {} : { softdep: `pre: m${soft % index}_x post: absent` }),
          }));
          const found = tablesOf(writeModuleTree(base, modules));
          for (const n of [0, 1, 2, 3]) {
            const alias = `pci:v0000000${n}d00000001`;
            const known = modules.some((module) => module.aliases?.includes(`pci:v0000000${n}d*`));
            const expected = known ? insertedByModprobe(base, alias) : [];
            expect(new Set(resolveDrivers(found, [request(alias)]).closure)).toEqual(new Set(expected));
          }
        } finally {
          rmSync(base, { recursive: true, force: true });
        }
      }),
      { numRuns: 15 },
    );
  });

  it('says which request nobody answers, and takes what is built in as answered', () => {
    const builtin = parseModuleTables(
      {
        alias: '',
        dep: '',
        softdep: '',
        builtin: 'kernel/drivers/nvme/host/nvme.ko\n',
        builtinModinfo: 'nvme.license=GPL\0nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\0',
      },
      'x',
    );
    const nvme = request('pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02');
    expect(resolveDrivers(builtin, [nvme, request('scsi:t-0x00')])).toEqual({
      requests: [
        { ...nvme, modules: ['nvme'] },
        { ...request('scsi:t-0x00'), modules: [] },
      ],
      closure: [],
      missing: [],
    });
  });

  it('names a dependency that does not exist', () => {
    const broken = parseModuleTables(
      { alias: 'alias pci:x a\n', dep: 'kernel/a.ko: kernel/gone.ko\n', softdep: '', builtin: '', builtinModinfo: '' },
      'x',
    );
    expect(resolveDrivers(broken, [request('pci:x')]).missing).toEqual(['a needs gone']);
  });

  it('does not hang on a circle of dependencies, nor on a chain without end', () => {
    const circle = parseModuleTables(
      { alias: 'alias pci:x a\n', dep: 'a.ko: b.ko\nb.ko: a.ko\n', softdep: '', builtin: '', builtinModinfo: '' },
      'x',
    );
    expect(resolveDrivers(circle, [request('pci:x')]).closure.toSorted()).toEqual(['a', 'b']);
    const dep = Array.from({ length: 5000 }, (_, i) => `m${i}.ko: m${i + 1}.ko`).join('\n');
    const chain = parseModuleTables(
      { alias: 'alias pci:x m0\n', dep, softdep: '', builtin: '', builtinModinfo: '' },
      'x',
    );
    expect(() => resolveDrivers(chain, [request('pci:x')])).toThrow(
      expect.objectContaining({ code: 'guest.module-tables-damaged' }) as Error,
    );
  });
});

describe('parseModuleTables', () => {
  it('leaves out paths that would lead out of the module tree', () => {
    const dep = '../../etc/shadow.ko:\n/etc/passwd.ko:\nkernel/a.ko:\n';
    const alias = 'alias pci:1 shadow\nalias pci:2 passwd\nalias pci:3 a\n';
    expect(
      Object.keys(parseModuleTables({ alias, dep, softdep: '', builtin: '', builtinModinfo: '' }, 'x').modules),
    ).toEqual(['a']);
  });

  it('knows what a driver that is built in is for, where the kernel does not say', async () => {
    // As in Debian 13: virtio_pci is built in, and modules.builtin.modinfo has no alias of it.
    const text = {
      alias: 'alias virtio:d00000008v* virtio_scsi\n',
      dep: 'kernel/virtio_scsi.ko.xz: kernel/scsi_mod.ko.xz\nkernel/scsi_mod.ko.xz:\n',
      softdep: '',
      builtin: 'kernel/drivers/virtio/virtio_pci.ko\n',
      builtinModinfo: 'virtio_pci.license=GPL\0',
    };
    const requests = modaliasesOf(await loadHardwareProfile('virtio-scsi')).filter(
      ({ role }) => role === 'boot-storage',
    );
    const found = resolveDrivers(parseModuleTables(text, 'x'), requests);
    expect(found.requests.flatMap(({ modules }) => modules)).toEqual(
      expect.arrayContaining(['virtio_pci', 'virtio_scsi']),
    );
    expect(found.closure).toEqual(['scsi_mod', 'virtio_scsi']);
    const without = resolveDrivers(parseModuleTables({ ...text, builtin: '' }, 'x'), requests);
    expect(without.requests.some(({ modules }) => modules.length === 0)).toBe(true);
  });

  it('rejects a modules.dep that is none', () => {
    const text = { alias: '', dep: 'no colon here\n', softdep: '', builtin: '', builtinModinfo: '' };
    expect(() => parseModuleTables(text, 'x')).toThrow(
      expect.objectContaining({ code: 'guest.module-tables-damaged' }) as Error,
    );
  });

  it('is JSON and back again', () => {
    expect(JSON.parse(JSON.stringify(tables))).toEqual({ ...tables, modules: { ...tables.modules } });
    expect(Object.keys(tables.modules)).toHaveLength(fakeModules.length);
  });
});
