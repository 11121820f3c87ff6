import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GuestTree } from '../access/guest-tree.ts';
import { ahciInitrdModules, buildInitrd, FAKE_VERSION, writeModuleTree } from '../testing/fake-kernel.ts';
import { buildDriverArchive, paddingBefore } from './driver-archive.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'archive-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const nvmeFiles = ['kernel/drivers/nvme/host/nvme-core.ko', 'kernel/drivers/nvme/host/nvme.ko'];

/** Unpacks as the kernel does: each archive over the one before. */
function unpack(into: string, archives: readonly Buffer[]): void {
  mkdirSync(into);
  for (const input of archives) execFileSync('cpio', ['-i', '-u', '-d', '-m', '--quiet'], { cwd: into, input });
}

describe('buildDriverArchive', () => {
  it.each([
    [true, 'usr/lib/modules', 'usr'],
    [false, 'lib/modules', ''],
  ])(
    'unpacked over the initrd gives a tree in which modprobe finds old and new (usr merged: %s)',
    async (usrMerged, modulesRoot, prefix) => {
      const tree = writeModuleTree(base);
      const work = join(base, 'work');
      mkdirSync(work);
      const original = buildInitrd(tree, work, {
        modules: ahciInitrdModules,
        compression: 'none',
        microcode: false,
        usrMerged,
      });
      const archive = await buildDriverArchive(new GuestTree([{ mountPoint: '/', hostPath: base }]), {
        kernelVersion: FAKE_VERSION,
        moduleFiles: nvmeFiles,
        modulesRoot,
        mtimeSeconds: 0,
      });
      const out = join(base, 'out');
      unpack(out, [original, archive]);
      expect(lstatSync(join(out, 'lib')).isSymbolicLink()).toBe(usrMerged);
      const inserted = (alias: string) =>
        execFileSync('modprobe', ['-d', join(out, prefix), '-S', FAKE_VERSION, '--show-depends', alias], {
          encoding: 'utf8',
        })
          .split('\n')
          .flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []);
      const nvme = inserted('pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02');
      const ahci = inserted('pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01');
      expect([nvme.length, new Set(ahci).size]).toEqual([2, 5]);
      for (const file of [...nvme, ...ahci]) expect(existsSync(file)).toBe(true);
      expect(readFileSync(join(out, modulesRoot, FAKE_VERSION, 'modules.dep'))).toEqual(
        readFileSync(join(tree, 'modules.dep')),
      );
    },
  );

  it('stops when the tree lacks a file of its index', async () => {
    const tree = writeModuleTree(base);
    unlinkSync(join(tree, nvmeFiles[1] ?? ''));
    const building = buildDriverArchive(new GuestTree([{ mountPoint: '/', hostPath: base }]), {
      kernelVersion: FAKE_VERSION,
      moduleFiles: nvmeFiles,
      modulesRoot: 'lib/modules',
      mtimeSeconds: 0,
    });
    await expect(building).rejects.toMatchObject({ code: 'guest.module-missing' });
  });
});

it('an archive begins at a multiple of four', () => {
  for (const size of [0, 1, 2, 3, 4, 5, 2 ** 31 + 1, 2 ** 32 + 3])
    expect((size + paddingBefore(size).length) % 4).toBe(0);
});
