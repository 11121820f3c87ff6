/**
 * A Debian on LVM whose initial RAM disk dracut made, from AHCI onto virtio-scsi: drivers appended, and started there. What it tries to reach from
 * there, it does not reach.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { TestHost, verbContext } from '../support/test-host.ts';

const BUILD = join(import.meta.dirname, '../../scripts/build-guest.sh');
/** Ten times what it takes on a quiet machine under software emulation. */
const LIMIT_MS = 400_000;

let host: TestHost;
beforeAll(async () => {
  host = await TestHost.open('dracut');
});
afterAll(async () => host?.close());
afterEach(({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(host.log.join(''));
});

test('a machine with its root on LVM and an initial RAM disk of dracut starts on other hardware once its drivers were added', async () => {
  const built = execFileSync('bash', [BUILD, '--initramfs', 'dracut', '--root', 'lvm'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const image = host.path('dracut.qcow2');
  execFileSync('cp', ['--reflink=auto', '--sparse=always', built.trim(), image]);
  const { name: machine } = await host.machine({
    name: 'debian',
    disks: [{ image }],
    controller: 'ahci',
    memoryMiB: 512,
  });
  const { pointId } = await host.engine.captureMachine({ opId: host.op('backup'), machine }, verbContext());
  const target = { kind: 'directory', directory: host.path('restored'), name: 'moved' } as const;
  const { disks } = await host.engine.restoreDisks(
    { opId: host.op('restore'), machine, pointId, target },
    verbContext(),
  );
  const redeployed = await host.engine.applyRedeploy(
    { opId: host.op('redeploy'), machine, pointId, disks, profile: 'virtio-scsi' },
    verbContext(),
  );
  expect(redeployed.refusals).toEqual([]);
  expect(redeployed.installed[0]?.modules).toEqual(expect.arrayContaining(['ahci', 'sd_mod', 'virtio_scsi']));
  expect(redeployed.editedFiles).toContain('/etc/dracut.conf.d/90-lifeboat.conf');
  // Of this host, where QEMU would lead 10.0.2.2 to if the network were not isolated.
  let reached = 0;
  const outside = createServer((socket) => {
    reached += 1;
    socket.end();
  }).listen(0, '127.0.0.1');
  await once(outside, 'listening');
  onTestFinished(() => void outside.close());
  const { port } = outside.address() as AddressInfo;
  const card = 'dev=$(ls /sys/class/net | grep -v ^lo | head -1)';
  const boot = await host.engine.bootTest(
    {
      opId: host.op('boot'),
      machine,
      source: { kind: 'disks', pointId, disks },
      profile: 'virtio-scsi',
      readyPattern: 'GUEST-BOOT-OK',
      timeoutMs: LIMIT_MS,
      probes: [
        `${card}; ip link set $dev up && busybox udhcpc -i $dev -n -q -t 10 -s /bin/true`,
        `${card}; ip addr add 10.0.2.15/24 dev $dev && ip route add default via 10.0.2.2`,
        `! timeout 5 bash -c '</dev/tcp/10.0.2.2/${port}'`,
      ],
    },
    verbContext(),
  );
  expect(boot).toMatchObject({ finding: 'ready', controller: 'virtio-scsi', network: { lease: '10.0.2.15' } });
  // It tried to leave, that was seen, and it did not get there.
  expect(boot.network.attempts).toContain(`10.0.2.2 tcp ${port}`);
  expect(reached).toBe(0);
});
