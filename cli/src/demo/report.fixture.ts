/** A report of a run that went well, for the tests of its renderings. */
import { GiB, MiB } from '@lifeboat/foundation/units';
import type { Report } from './report.ts';

const BEGAN_MS = Date.UTC(2026, 10, 24, 0, 23, 42);

/** A black screen of 8x5 pixels. */
const SCREEN_PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAFCAAAAABd+vKJAAAADElEQVR4nGNgIAEAAAAtAAHF18CGAAAAAElFTkSuQmCC',
  'base64',
);

export const goodReport: Report = {
  version: '0.1.0',
  beganMs: BEGAN_MS,
  durationMs: 412_000,
  machine: {
    name: 'lb-demo-guest',
    description: 'Debian 12 on an AHCI disk of 3.00 GiB, its initramfs holding the AHCI driver and no other.',
  },
  target: 'virtio-scsi',
  recovery: { rtoMs: 71_400, rpoMs: 48_200, provenAfterMs: 47_100 },
  backups: [
    {
      title: 'Full backup of the running machine',
      pointId: 'p20261124T002512Z-9f86d081',
      instantMs: BEGAN_MS + 90_000,
      method: 'full',
      consistency: 'filesystem',
      readBytes: 1.21 * GiB,
      changedBytes: 1.21 * GiB,
      storedBytes: 402 * MiB,
      durationMs: 14_300,
    },
    {
      title: 'Incremental of the running machine',
      pointId: 'p20261124T002611Z-0a1b2c3d',
      instantMs: BEGAN_MS + 149_000,
      method: 'incremental',
      consistency: 'filesystem',
      readBytes: 71 * MiB,
      changedBytes: 66.4 * MiB,
      storedBytes: 65.2 * MiB,
      durationMs: 3_100,
    },
  ],
  steps: [
    {
      id: 'guest',
      title: 'Start the machine',
      state: 'done',
      durationMs: 31_000,
      summary: 'A copy of the cached guest image was defined in libvirt on AHCI and started.',
      facts: [
        ['Image', '/root/.cache/lifeboat/guest/debian-12-3f2a.qcow2'],
        ['Ready after', '28.4 s'],
      ],
      checks: [],
      evidence: [],
    },
    {
      id: 'incremental',
      title: 'Incremental backup',
      state: 'done',
      durationMs: 3_400,
      summary: 'The dirty bitmap named what had changed since the full backup; only that was read.',
      facts: [['Point', 'p20261124T002611Z-0a1b2c3d']],
      checks: [
        {
          claim: 'Only what changed was read.',
          good: true,
          detail: '71.0 MiB read over NBD; the chunks touched and the audit allow at most 74.0 MiB.',
        },
      ],
      evidence: [],
    },
    {
      id: 'verify',
      title: 'Boot test straight from the repository',
      state: 'done',
      durationMs: 36_000,
      summary: 'The newest point started on an isolated network from an export of the repository, without a restore.',
      facts: [
        ['Accelerator', 'TCG (software emulation)'],
        ['Guest CPU', '23.1 s'],
        ['Read by the guest', '94.3 MiB'],
      ],
      checks: [{ claim: 'The newest point starts.', good: true, detail: 'Boot marker after 33.9 s.' }],
      evidence: [
        {
          kind: 'console',
          title: 'Serial console, last lines',
          text: '[   21.402113] systemd[1]: Reached target multi-user.target.\nGUEST-BOOT-OK 28.21 51.04 root=/dev/sda2',
        },
        { kind: 'screenshot', title: 'Screen when the marker was seen', png: SCREEN_PNG },
      ],
    },
    {
      id: 'redeploy',
      title: 'Restore as a new machine on virtio-scsi',
      state: 'done',
      durationMs: 71_400,
      summary:
        'The point was restored, the missing drivers were injected into the initramfs, and the machine was started.',
      facts: [['Injected in', '120 ms']],
      checks: [
        { claim: 'The machine starts on the other hardware.', good: true, detail: 'Boot marker after 41.2 s.' },
        {
          claim: 'Every guest file outside the journal equals the point’s.',
          good: true,
          detail: '12 804 files compared, 0 differ; 2 edited files are named in the journal.',
        },
      ],
      plan: [
        'Machine    lb-demo-guest, Debian 12, kernel 6.1.0-28-amd64',
        'Target     virtio-scsi (PCI 1af4:1048)',
        'Edit       /boot/initrd.img-6.1.0-28-amd64: append virtio_scsi, virtio_pci, virtio_ring, virtio (212 KiB)',
      ],
      evidence: [],
    },
    {
      id: 'proof',
      title: 'The same restore without injection',
      state: 'skipped',
      durationMs: 0,
      summary: 'Left out on request (--skip-proof).',
      facts: [],
      checks: [],
      evidence: [],
    },
  ],
  host: [
    ['Host', 'rescue-7, 2 cores, 24.0 GiB'],
    ['Accelerator', 'TCG: /dev/kvm is there, but a probe guest did not run on it'],
  ],
  versions: [
    ['Lifeboat', '0.1.0'],
    ['QEMU', '7.2.15'],
  ],
  next: [{ purpose: 'Run it again and keep everything', command: 'npm run demo -- --keep' }],
};

/** The same run with a guest that stopped in the boot loader. */
export const badReport: Report = {
  ...goodReport,
  steps: goodReport.steps.map((step) =>
    step.id === 'verify'
      ? {
          ...step,
          checks: [
            {
              claim: 'The newest point starts.',
              good: false,
              detail: 'Stopped in the GRUB rescue shell after 4.1 s: "grub rescue>".',
            },
          ],
        }
      : step,
  ),
};
