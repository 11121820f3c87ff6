/** The demo, as a stranger runs it: green on hardware of every kind, kept if asked to, red when the guest does not start. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createContext } from '@lifeboat/cli/context';
import { verdictOf, type Report } from '@lifeboat/cli/demo/report';
import { runDemo } from '@lifeboat/cli/demo/run-demo';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { orphanedGrub } from '../support/grub-guest.ts';
import { start } from '../support/lifeboat-command.ts';
import { processesWith, virsh } from '../support/test-host.ts';

let root: string;
beforeAll(() => {
  const base = process.env['LIFEBOAT_STATE'] ?? '/var/lib/lifeboat';
  mkdirSync(base, { recursive: true, mode: 0o711 });
  root = mkdtempSync(join(base, 'it-demo-'));
  chmodSync(root, 0o711); // QEMU's account passes through
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Whatever a run may leave: its machines, its directory, its processes. Reports and the build's log stay. */
function traces(): string[] {
  return [
    ...virsh('list', '--all', '--name')
      .split('\n')
      .filter((name) => runNames.some((run) => name.includes(run))),
    ...readdirSync(join(root, 'demo')).filter((name) => name !== 'build-log'),
    ...processesWith(root).map(({ command }) => command),
  ];
}
const runNames: string[] = [];

/** Notes the name of the run, which is in the names of its machines. */
function noteRun(): void {
  runNames.push(...readdirSync(join(root, 'demo')).filter((name) => name !== 'build-log'));
}

/** Hardware that no shipped profile has: what VMware gives a machine. */
const RACK = {
  name: 'rack-7',
  description: 'A machine of the lab',
  firmware: 'bios',
  pciDevices: [
    { vendor: '15ad', device: '07c0', class: '010700', role: 'boot-storage', name: 'VMware PVSCSI' },
    { vendor: '15ad', device: '07b0', class: '020000', role: 'network', name: 'VMware VMXNET3' },
  ],
  emulation: { diskController: 'pvscsi', nicModel: 'vmxnet3' },
};

interface Document {
  readonly verdict: string;
  readonly htmlPath: string;
  readonly report: Report;
}

function endOfSteps({ report }: Document): string[] {
  return report.steps.map(({ id, state }) => `${id} ${state}`);
}

describe('npm run demo', () => {
  it('brings the machine back on other hardware, and proves it', async () => {
    const report = join(root, 'report.html');
    const running = start(['demo', '--report', report, '--json'], { LIFEBOAT_STATE: root });
    await running.shows(/▸ Start a real machine/);
    noteRun();
    const ended = await running.ended;
    expect([ended.stderr, ended.code]).toEqual([expect.anything(), 0]);
    const document = ended.json as Document;
    expect(document).toMatchObject({ verdict: 'good', htmlPath: report, report: { target: 'virtio-scsi' } });
    expect(endOfSteps(document)).toEqual([
      'image done',
      'guest done',
      'full done',
      'change done',
      'incremental done',
      'verify done',
      'redeploy done',
      'proof done',
      'cleanup done',
    ]);
    expect(document.report.steps.flatMap(({ checks }) => checks)).toHaveLength(8);
    const { recovery } = document.report;
    for (const name of ['rtoMs', 'rpoMs', 'provenAfterMs'] as const) expect(recovery?.[name]).toBeGreaterThan(0);
    const page = readFileSync(report, 'utf8');
    expect(page).toContain('<h1>Recovery proven: the machine came back on virtio-scsi.</h1>');
    expect(page.match(/<img src="data:image\/png;base64,iVBOR/g)?.length).toBeGreaterThanOrEqual(4);
    expect(traces()).toEqual([]);
  });

  it('keeps what it is asked to keep, to go on with: the machine, on hardware of the user’s own, and its repository', async () => {
    const profile = join(root, 'rack-7.json');
    writeFileSync(profile, JSON.stringify(RACK));
    const running = start(['demo', '--target', profile, '--keep', '--skip-proof', '--json'], { LIFEBOAT_STATE: root });
    await running.shows(/▸ Start a real machine/);
    noteRun();
    const ended = await running.ended;
    expect([ended.stderr, ended.code]).toEqual([expect.anything(), 0]);
    const document = ended.json as Document;
    expect(endOfSteps(document).slice(-3)).toEqual(['redeploy done', 'proof skipped', 'cleanup done']);
    expect(readFileSync(document.htmlPath, 'utf8')).toContain(
      '<h1>Recovery proven: the machine came back on rack-7. Left out: The same restore without drivers.</h1>',
    );
    const run = runNames.at(-1) ?? '';
    const machines = [`lb-demo-${run}`, `lb-demo-${run}-new`];
    expect(machines.map((name) => virsh('domstate', name).trim())).toEqual(['running', 'running']);
    expect(virsh('dumpxml', machines[1] ?? '')).toContain("model='vmpvscsi'");
    for (const name of machines) virsh('suspend', name); // two cores are for the next one

    const kept = { LIFEBOAT_STATE: join(root, 'demo', run) };
    const inspected = await start(['inspect', machines[0] ?? '', '--json'], kept).ended;
    expect(inspected.json).toMatchObject({
      taken: 'at-backup',
      inventory: {
        hardware: { firmware: 'bios' },
        disks: [
          {
            controller: 'ahci',
            scheme: 'gpt',
            bootCode: { loader: 'grub', grubCore: { place: 'bios-boot-partition' } },
            partitions: [{ number: 1 }, { number: 2, content: { type: 'ext4', label: 'guestroot' } }],
          },
        ],
        systems: [
          {
            os: { id: 'debian', versionId: '12' },
            architecture: 'x86_64',
            kernels: [
              {
                initrd: {
                  generator: 'initramfs-tools',
                  bootDrivers: expect.arrayContaining(['ahci', 'sd_mod']) as string[],
                },
              },
            ],
          },
        ],
        problems: [],
      },
    });

    const nvme = `lb-demo-${run}-nvme`;
    const onNvme = await start(['redeploy', machines[0] ?? '', '--target', 'nvme', '--name', nvme, '--json'], kept)
      .ended;
    expect([onNvme.stderr, onNvme.code]).toEqual([expect.anything(), 0]);
    expect(onNvme.json).toMatchObject({
      verdict: 'proven',
      boot: { finding: 'ready', controller: 'nvme' },
      redeploy: { installed: [{ modules: expect.arrayContaining(['nvme']) as string[] }] },
    });
    virsh('undefine', nvme); // the user's own, which --clean does not know

    const cleaned = await start(['demo', '--clean', '--json'], { LIFEBOAT_STATE: root }).ended;
    expect([cleaned.code, cleaned.json]).toEqual([0, { removed: [run] }]);
    expect(traces()).toEqual([]);
  });

  it('is red when the guest stops in the GRUB rescue shell', async () => {
    const context = createContext(
      { stdout: { write: () => {} }, stderr: { write: () => {} }, environment: process.env },
      {
        global: { json: false, quiet: true },
        configuration: loadConfiguration({ environment: { ...process.env, LIFEBOAT_STATE: root } }),
        signal: new AbortController().signal,
      },
    );
    // Compressed: one argument of a program holds 128 KiB.
    const grub = gzipSync(orphanedGrub(join(root, 'grub'))).toString('base64');
    expect(grub.length).toBeLessThan(100_000);
    const { report, failure, htmlPath } = await runDemo(context, {
      target: 'virtio-blk',
      skipProof: true,
      keep: false,
      clean: false,
      async tamper(guest) {
        noteRun();
        await guest.run(`echo ${grub} | base64 -d | gzip -dc | dd of=/dev/sda bs=64k conv=notrunc,fsync status=none`);
      },
    });
    expect(failure).toBeUndefined();
    expect(verdictOf(report)).toBe('bad');
    const verify = report.steps.find(({ id }) => id === 'verify');
    expect(verify?.checks.filter(({ good }) => !good)).toEqual([
      {
        claim: expect.stringContaining('starts') as string,
        good: false,
        detail: expect.stringContaining('grub-rescue') as string,
      },
    ]);
    expect(report.steps.find(({ id }) => id === 'redeploy')?.state).toBe('skipped');
    const page = readFileSync(htmlPath ?? '', 'utf8');
    expect(page).toContain('verdict bad');
    // The shell is seen on the screen or on the serial line, whichever is first; the picture shows it in any case.
    expect(page).toContain('GRUB stopped in its rescue shell');
    expect(page.match(/<img src="data:image\/png;base64,iVBOR/g)?.length).toBeGreaterThanOrEqual(2);
    expect(traces()).toEqual([]);
  });

  it('leaves nothing when Ctrl-C comes while the guest starts', async () => {
    const running = start(['demo'], { LIFEBOAT_STATE: root });
    await running.shows(/▸ Start a real machine/);
    noteRun();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    running.child.kill('SIGINT');
    const ended = await running.ended;
    expect([ended.stderr, ended.code]).toEqual([expect.stringContaining('[operation.cancelled]'), 130]);
    expect(traces()).toEqual([]);
  });

  it('takes away what a run that was killed had left', async () => {
    const running = start(['demo'], { LIFEBOAT_STATE: root });
    await running.shows(/▸ Start a real machine/);
    noteRun();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    running.child.kill('SIGKILL');
    await running.ended;
    expect(traces()).not.toEqual([]);
    const cleaned = await start(['demo', '--clean'], { LIFEBOAT_STATE: root }).ended;
    expect(cleaned.code).toBe(0);
    expect(traces()).toEqual([]);
  });
});
