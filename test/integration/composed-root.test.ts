/**
 * A machine whose root lies on several disks, in a striped logical volume or on a mirror, or in a subvolume of btrfs, is redeployed:
 * no device mapper, no MD of this host's kernel. Other people's tools look at the result: debugfs and e2fsck, over the volume put together by the test.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { withGuest, type GuestDisk } from '@lifeboat/guest/access/open-guest';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import { injectDrivers } from '@lifeboat/guest/inject/inject-drivers';
import { inspectGuest } from '@lifeboat/guest/inspect/inspect-guest';
import { revertJournal } from '@lifeboat/guest/journal/apply-journal';
import { planRedeploy } from '@lifeboat/guest/plan/redeploy-plan';
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import { FAKE_VERSION } from '@lifeboat/guest/testing/fake-kernel';
import { attachedLoops } from '@lifeboat/host/loop-device';
import { mountsBeneath } from '@lifeboat/host/mounts';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { buildComposedGuest, rootsOf, type Composition } from '../support/composed-guest.ts';
import { buildGuestImage, mountedBtrfs } from '../support/guest-image.ts';

const { signal } = new AbortController();
const INITRD = `/boot/initrd.img-${FAKE_VERSION}`;

const NETPLAN = '/etc/netplan/01.yaml';

function nameCard(root: string): void {
  mkdirSync(join(root, 'etc/netplan'));
  writeFileSync(join(root, NETPLAN), 'ethernets:\n  lan:\n    match:\n      macaddress: 52:54:00:00:00:01\n');
}

let base: string;
beforeEach(async () => {
  base = realpathSync(await scratchDirectory());
});

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function fileIn(root: Buffer, path: string): Buffer {
  const image = join(base, 'root.img');
  const out = join(base, 'out');
  writeFileSync(image, root);
  execFileSync('e2fsck', ['-fn', image], { stdio: 'ignore' });
  execFileSync('debugfs', ['-R', `dump ${path} ${out}`, image], { stdio: 'ignore' });
  return readFileSync(out);
}

describe.each<{ composition: Composition; source: string; name: string }>([
  { composition: 'lvm-striped', source: '/dev/mapper/vg0-root', name: 'vg0/root' },
  { composition: 'raid1', source: '/dev/md/root', name: 'guest:root' },
])('a root on $composition', ({ composition, source, name }) => {
  test('gets its drivers on the disks it lies on, and gives back identical bytes', async () => {
    const directory = join(base, 'img');
    mkdirSync(directory);
    const paths = buildComposedGuest(composition, { directory, rootSource: source, change: nameCard });
    const disks: GuestDisk[] = paths.map((path, i) => ({ name: `vd${'ab'[i]}`, image: { path, format: 'raw' } }));
    const hashes = () => paths.map((path) => sha256(readFileSync(path)));
    const before = hashes();
    const inspection = await withGuest({ disks, directory: join(base, 'inspect'), signal }, ({ tree, mounted }) =>
      inspectGuest(tree, mounted, systemUnpackers(signal)),
    );
    expect(inspection.root).toMatchObject({ type: 'ext4', volume: { name } });
    expect(hashes()).toEqual(before);

    const profile = { ...(await loadHardwareProfile('virtio-scsi')), macs: ['52:54:00:00:00:02'] };
    const plan = planRedeploy(inspection, profile);
    expect(plan.refusals).toEqual([]);
    const result = await injectDrivers({ disks, plan, directory: join(base, 'op') }, { signal, progress: () => {} });
    expect(result.kernels[0]?.addedModules).toContain('virtio_scsi');
    // Both disks hold a part of what was written, those of a mirror all of it.
    const after = hashes();
    expect(after[0]).not.toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
    const written = result.edits.find(({ path }) => path === INITRD)?.newSha256;
    for (const root of rootsOf(composition, paths)) {
      expect(sha256(fileIn(root, INITRD))).toBe(written);
      expect(fileIn(root, NETPLAN).toString()).toContain('macaddress: 52:54:00:00:00:02\n');
    }
    await revertJournal({ directory: join(base, 'op', 'journal'), workDirectory: join(base, 'op'), signal });
    expect(hashes()).toEqual(before);
    expect(await mountsBeneath(base)).toEqual([]);
    expect((await attachedLoops()).filter(({ path }) => path.startsWith(base))).toEqual([]);
  });
});

async function rootWithOneDisk(composition: Composition): Promise<unknown> {
  const directory = join(base, 'img');
  mkdirSync(directory);
  const [first] = buildComposedGuest(composition, { directory });
  const disks: GuestDisk[] = [{ name: 'vda', image: { path: first, format: 'raw' } }];
  return withGuest({ disks, directory: join(base, 'inspect'), signal }, async ({ mounted }) => mounted.root);
}

test('a mirror opens with the disk that is left', async () => {
  expect(await rootWithOneDisk('raid1')).toMatchObject({ volume: { name: 'guest:root' } });
});

test('a logical volume that lacks a disk is named, with what it lacks', async () => {
  await expect(rootWithOneDisk('lvm-striped')).rejects.toThrow(
    /inside LVM on vda partition 1.*lacks its physical volume.*vg0\/root/,
  );
});

test('a root in a subvolume of btrfs is edited there and not in its snapshot, and gives back identical bytes', async () => {
  const directory = join(base, 'img');
  mkdirSync(directory);
  const image = buildGuestImage({ directory, format: 'raw', subvolume: '@rootfs' });
  const before = sha256(readFileSync(image));
  const disks: GuestDisk[] = [{ name: 'vda', image: { path: image, format: 'raw' } }];
  const inspection = await withGuest({ disks, directory: join(base, 'inspect'), signal }, ({ tree, mounted }) =>
    inspectGuest(tree, mounted, systemUnpackers(signal)),
  );
  expect(inspection.root).toMatchObject({ type: 'btrfs', subvolume: '/@rootfs' });
  const plan = planRedeploy(inspection, await loadHardwareProfile('nvme'));
  expect(plan.refusals).toEqual([]);
  const result = await injectDrivers({ disks, plan, directory: join(base, 'op') }, { signal, progress: () => {} });
  const written = result.edits.find(({ path }) => path === INITRD);
  // A copy, since the kernel writes when it mounts.
  const copy = join(base, 'copy.raw');
  execFileSync('cp', ['--sparse=always', image, copy]);
  const [root, snapshot] = mountedBtrfs(
    copy,
    base,
    (top) => ['@rootfs', '@rootfs-before'].map((name) => sha256(readFileSync(join(top, name, INITRD)))),
    1024 * 1024,
  );
  expect(root).toBe(written?.newSha256);
  expect(snapshot).toBe(written?.oldSha256);
  await revertJournal({ directory: join(base, 'op', 'journal'), workDirectory: join(base, 'op'), signal });
  expect(sha256(readFileSync(image))).toBe(before);
});
