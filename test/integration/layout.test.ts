/**
 * A Debian whose root lies on a logical partition at sector 63 of an MBR, as installers left it once, comes back on an aligned GPT that
 * is larger, and starts there: by BIOS, and by UEFI, which it never knew.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { RestoredDisk } from '@lifeboat/engine/verbs';
import type { PointId } from '@lifeboat/foundation/ids';
import { GiB, MiB } from '@lifeboat/foundation/units';
import { orphanedGrub } from '../support/grub-guest.ts';
import { run, TestHost, verbContext } from '../support/test-host.ts';

const BUILD = join(import.meta.dirname, '../../scripts/build-guest.sh');
const SECTOR = 512;
/** As `build-guest.sh` lays it out: 1 MiB of table, 1 MiB for GRUB's core, the root, 128 MiB that are free. */
const ROOT = { fromBytes: 2 * MiB, lengthBytes: 3 * GiB - 130 * MiB };
/** The extended partition begins on the second track, its first logical one on the third. */
const ROOT_SECTOR = 126;
/** Ten times what it takes on a quiet machine under software emulation. */
const LIMIT_MS = 400_000;

let host: TestHost;
beforeAll(async () => {
  host = await TestHost.open('layout');
});
afterAll(async () => host?.close());
afterEach(({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(host.log.join(''));
});

/** The guest's root as it is, on an MBR that somebody partitioned by cylinders, with a GRUB in its gap. */
function oldFashioned(): string {
  const built = execFileSync('bash', [BUILD], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
  const disk = host.path('old.raw');
  const gap = orphanedGrub(host.path('old')).subarray(0, 63 * SECTOR);
  const file = openSync(disk, 'w');
  try {
    ftruncateSync(file, ROOT_SECTOR * SECTOR + ROOT.lengthBytes + MiB);
    writeSync(file, gap);
  } finally {
    closeSync(file);
  }
  const sectors = ROOT.lengthBytes / SECTOR;
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', '--wipe', 'never', disk], {
    input: `label: dos\n1 : start=63, size=${sectors + 63}, type=5\n5 : start=${ROOT_SECTOR}, size=${sectors}, type=83, bootable\n`,
  });
  const from = `driver=raw,offset=${ROOT.fromBytes},size=${ROOT.lengthBytes},file.driver=qcow2,file.file.driver=file,file.file.filename=${built}`;
  const to = `driver=raw,offset=${ROOT_SECTOR * SECTOR},size=${ROOT.lengthBytes},file.driver=file,file.filename=${disk}`;
  run('qemu-img', 'convert', '-n', '--target-is-zero', '--image-opts', from, '--target-image-opts', to);
  return disk;
}

test('a machine on logical partitions at sector 63 starts from an aligned, larger GPT by BIOS, and by UEFI', async () => {
  const { name: machine } = await host.machine({
    name: 'debian',
    disks: [{ image: oldFashioned(), format: 'raw' }],
    controller: 'ahci',
    memoryMiB: 512,
  });
  const { pointId } = await host.engine.captureMachine({ opId: host.op('backup'), machine }, verbContext());
  const target = { kind: 'directory', directory: host.path('restored'), name: 'moved' } as const;
  const layout = {
    scheme: 'gpt',
    firmware: 'uefi',
    ids: 'kept',
    resize: 'last',
    sizeBytes: 3 * GiB + 512 * MiB,
  } as const;
  const planned = await host.engine.planRestore({ machine, pointId, target, layout }, verbContext());
  const restored = await host.engine.restoreDisks(
    { opId: host.op('restore'), machine, pointId, target, layout },
    verbContext(),
  );
  const { disks } = restored;
  expect(restored.layout?.lines.slice(1)).toEqual(planned.lines.slice(1));
  const table = host.path('table.raw');
  run('qemu-img', 'convert', '-O', 'raw', disks[0]?.path ?? '', table);
  expect(run('sgdisk', '--verify', table)).toContain('No problems found');
  const onDisks = { machine, pointId, disks } as const;
  await starts(onDisks, 'ahci');
  // Onto another controller as well, for which its initrd has no driver; the entry for the new partition is an edit like any other.
  const redeployed = await host.engine.applyRedeploy(
    { opId: host.op('redeploy'), ...onDisks, profile: 'virtio-scsi-uefi' },
    verbContext(),
  );
  expect(redeployed.refusals).toEqual([]);
  expect(redeployed.lines.join('\n')).toMatch(/edit \/etc\/fstab: add "UUID=[0-9A-F]{4}-[0-9A-F]{4} \/boot\/efi vfat/);
  expect(redeployed.editedFiles).toContain('/etc/fstab');
  await starts(onDisks, 'virtio-scsi-uefi');
});

async function starts(
  { pointId, disks, machine }: { machine: string; pointId: PointId; disks: readonly RestoredDisk[] },
  profile: string,
): Promise<void> {
  const boot = await host.engine.bootTest(
    {
      opId: host.op('boot'),
      machine,
      source: { kind: 'disks', pointId, disks },
      profile,
      readyPattern: 'GUEST-BOOT-OK',
      timeoutMs: LIMIT_MS,
    },
    verbContext(),
  );
  const console = readFileSync(boot.consoleLogPath, 'utf8').slice(-2000);
  expect(boot, `${profile}: ${boot.explanation}\n${console}`).toMatchObject({ finding: 'ready' });
}
