/**
 * Does a point start? Booted straight from the repository: what starts is found to start, and whatever does not is found
 * not to, with the reason and the evidence, and leaves nothing behind.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { BootTestInput } from '@lifeboat/engine/verbs';
import type { PointId } from '@lifeboat/foundation/ids';
import { MiB } from '@lifeboat/foundation/units';
import { readImage } from '@lifeboat/hypervisor/screen/image';
import { orphanedGrub } from '../support/grub-guest.ts';
import { run, TestHost, type TinyMachine, verbContext } from '../support/test-host.ts';
import { READY_STEPS, type Step, TINY_READY } from '../support/tiny-guest.ts';

/** Little: a BIOS waits for each 32 KiB of it. */
const DATA = { offsetBytes: MiB, lengthBytes: 5 * MiB };
const READ_ALL: Step = { do: 'read', fromBytes: 0, toBytes: DATA.offsetBytes + DATA.lengthBytes };
/** Far above what any of these guests needs, also on a machine with other work. */
const LIMIT_MS = 90_000;

let host: TestHost;
beforeAll(async () => {
  host = await TestHost.open('boot');
});
afterAll(async () => host?.close());
afterEach(({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(host.log.join(''));
});

interface Subject {
  readonly machine: TinyMachine;
  readonly pointId: PointId;
}

/** A machine that never ran, and a point of it. */
async function subject(
  name: string,
  disk: { steps?: readonly Step[]; start?: Buffer; random?: boolean },
): Promise<Subject> {
  const { steps, start, random = false } = disk;
  const machine = await host.machine({
    name,
    disks: [{ sizeBytes: 64 * MiB, random: random ? [DATA] : [], ...(start ? { start } : {}) }],
    ...(steps ? { steps } : {}),
  });
  const opId = host.op('backup');
  const { pointId } = await host.engine.captureMachine({ opId, machine: machine.name }, verbContext());
  await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
  return { machine, pointId };
}

async function boot({ machine, pointId }: Subject, options: Partial<BootTestInput> & { signal?: AbortSignal } = {}) {
  const { signal, ...input } = options;
  return host.engine.bootTest(
    {
      opId: host.op('boot'),
      machine: machine.name,
      source: { kind: 'point', pointId },
      readyPattern: TINY_READY,
      timeoutMs: LIMIT_MS,
      ...input,
    },
    verbContext(signal ? { signal } : {}),
  );
}

/** Mean of all channels, 0 to 255. */
function brightness(path: string | undefined): number {
  const { rgb, width, height } = readImage(readFileSync(path ?? ''));
  expect([width, height]).toEqual([720, 400]);
  return rgb.reduce((total, value) => total + value, 0) / rgb.length;
}

/** What is left beside the operations' own directories, which hold their results. */
async function left(): Promise<string[]> {
  return (await host.traces()).filter((trace) => !trace.startsWith('operation '));
}

describe('a machine that starts', () => {
  let tiny: Subject;
  beforeAll(async () => {
    tiny = await subject('ready', { steps: [READ_ALL, ...READY_STEPS], random: true });
  });

  test('is ready, from the repository alone, with console and screen as evidence', async () => {
    const opId = host.op('boot');
    const summary = await boot(tiny, { opId });
    expect(summary).toMatchObject({
      finding: 'ready',
      controller: 'virtio-blk',
      accelerator: expect.any(String) as string,
    });
    expect(summary.explanation).toContain(TINY_READY);
    expect(summary.readBytes).toBeGreaterThanOrEqual(6 * MiB);
    expect(summary.guestCpuMs).toBeGreaterThan(0);
    expect(readFileSync(summary.consoleLogPath, 'latin1')).toContain(TINY_READY);
    expect(brightness(summary.screenshotPaths.at(-1))).toBeGreaterThan(0);
    expect(await left()).toEqual([]);
    // The same operation again, as after a lost answer: the same finding, and no second boot.
    // All of it is in the signed record by its hash: console, packets, findings, pictures.
    const { records } = await host.engine.listEvidence(tiny.machine.name);
    expect(records.at(-1)?.artefacts.map(({ name }) => name)).toEqual([
      'console.log',
      'network.pcap',
      'boot.json',
      ...summary.screenshotPaths.map((path) => basename(path)),
    ]);
    expect(summary.network).toMatchObject({ packets: 0, attempts: [] });
    expect(JSON.parse(readFileSync(join(dirname(summary.consoleLogPath), 'boot.json'), 'utf8'))).toEqual(summary);
    const { mtimeMs } = statSync(summary.consoleLogPath);
    expect(await boot(tiny, { opId })).toEqual(summary);
    expect(statSync(summary.consoleLogPath).mtimeMs).toBe(mtimeMs);
  });

  test.each(['virtio-scsi', 'nvme'])(
    'is ready on %s hardware, from restored disks that stay as they are',
    async (profile) => {
      const opId = host.op('restore');
      const target = { kind: 'directory', directory: host.path('restored'), name: profile } as const;
      const { disks } = await host.engine.restoreDisks({ opId, machine: tiny.machine.name, target }, verbContext());
      const path = disks[0]?.path ?? '';
      const before = run('sha256sum', path);
      const summary = await boot(tiny, { source: { kind: 'disks', pointId: tiny.pointId, disks }, profile });
      expect(summary).toMatchObject({ finding: 'ready', controller: profile });
      expect(run('sha256sum', path)).toBe(before);
      expect(await left()).toEqual([]);
    },
  );

  test('a pattern that is no pattern is refused before anything starts', async () => {
    await expect(boot(tiny, { readyPattern: 'ready (' })).rejects.toMatchObject({ code: 'engine.bad-ready-pattern' });
  });

  test('a point that is not there', async () => {
    const pointId = 'p20200101T000000Z-00000000' as PointId;
    await expect(boot({ ...tiny, pointId })).rejects.toMatchObject({ code: 'engine.no-such-point' });
    expect(await left()).toEqual([]);
  });
});

describe('a machine that does not start', () => {
  test('GRUB without its files: its rescue shell is found, and shown', async () => {
    const summary = await boot(await subject('grub', { start: orphanedGrub(host.path('grub')) }));
    expect(summary.finding).toBe('grub-rescue');
    expect(summary.explanation).toMatch(/GRUB stopped in its rescue shell/);
    expect(brightness(summary.screenshotPaths.at(-1))).toBeGreaterThan(0);
    expect(await left()).toEqual([]);
  });

  test('nothing to boot from', async () => {
    const summary = await boot(await subject('blank', { start: Buffer.alloc(512) }));
    expect(summary.finding).toBe('no-boot-device');
    expect(brightness(summary.screenshotPaths.at(-1))).toBeGreaterThan(0);
  });

  test('a guest that powers off before it is ready', async () => {
    const steps: Step[] = [{ do: 'say', text: 'going down\r\n' }, { do: 'power-off' }];
    const summary = await boot(await subject('ends', { steps }));
    expect(summary.finding).toBe('ended');
    expect(readFileSync(summary.consoleLogPath, 'latin1')).toContain('going down');
    expect(await left()).toEqual([]);
  });

  test('a guest that starts again and again', async () => {
    const summary = await boot(
      await subject('loops', { steps: [{ do: 'say', text: 'once more\r\n' }, { do: 'reset' }] }),
    );
    expect(summary.finding).toBe('reboot-loop');
    expect(summary.explanation).toMatch(/reset \d+ times/);
  });

  test('a guest that says it is ready and powers off at once was ready', async () => {
    const summary = await boot(await subject('short', { steps: [...READY_STEPS, { do: 'power-off' }] }));
    expect(summary.finding).toBe('ready');
  });

  test('a guest that says nothing of it in time', async () => {
    const silent = await subject('silent', { steps: [{ do: 'say', text: 'thinking about it\r\n' }] });
    const summary = await boot(silent, { timeoutMs: 12_000 });
    expect(summary.finding).toBe('timeout');
    expect(summary.explanation).toMatch(/not ready within 12.0 s; the last it said was 'thinking about it'/);
    expect(summary.elapsedMs).toBeGreaterThanOrEqual(12_000);
    expect(summary.screenshotPaths.at(-1)).toMatch(/screen\.png$/);
    expect(await left()).toEqual([]);
  });

  test('cancelled while it boots: no domain, network, export or socket stays', async () => {
    const slow = await subject('slow', { steps: [{ do: 'wait', seconds: 600 }] });
    const control = new AbortController();
    const opId = host.op('boot');
    const booting = boot(slow, { opId, signal: control.signal });
    await expect.poll(() => run('virsh', '-q', 'list', '--name'), { timeout: LIMIT_MS, interval: 200 }).toContain(opId);
    control.abort(new Error('no longer wanted'));
    await expect(booting).rejects.toThrow('no longer wanted');
    expect(await left()).toEqual([]);
    expect(run('find', host.path('ops'), '-type', 's')).toBe('');
    await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
    expect(readdirSync(host.path('ops'))).not.toContain(opId);
  });
});

test('a process that serves the point and dies is an error that may pass, no finding about the point', async () => {
  const waits = { do: 'wait', seconds: 15 } as const;
  const victim = await subject('unserved', { steps: [waits, READ_ALL, ...READY_STEPS], random: true });
  const opId = host.op('boot');
  const booting = boot(victim, { opId });
  // Settled long before it is looked at below: without a handler that would count as nobody's.
  const ended = booting.then(
    () => undefined,
    (error: unknown) => error,
  );
  await expect.poll(() => run('virsh', '-q', 'list', '--name'), { timeout: LIMIT_MS, interval: 200 }).toContain(opId);
  const [record] = readdirSync(host.path('ops', opId)).filter((name) => /^point-export.*pid/.test(name));
  const pid = Number(/\d+/.exec(readFileSync(host.path('ops', opId, record ?? ''), 'utf8'))?.[0]);
  process.kill(pid, 'SIGKILL');
  expect(await ended).toMatchObject({ code: 'engine.export-failed' });
  expect(await left()).toEqual([]);
  expect(await boot(victim, { opId })).toMatchObject({ finding: 'ready' });
});

test('a store that fails in the middle is an error that may pass, no finding about the point', async () => {
  const victim = await subject('brown-out', { steps: [READ_ALL, ...READY_STEPS], random: true });
  const pack = newestPack();
  renameSync(pack, `${pack}.away`);
  mkdirSync(pack);
  const opId = host.op('boot');
  try {
    await expect(boot(victim, { opId })).rejects.toMatchObject({
      code: 'engine.export-failed',
      message: expect.stringContaining('the point is not served any more') as string,
    });
    expect(await left()).toEqual([]);
  } finally {
    rmdirSync(pack);
    renameSync(`${pack}.away`, pack);
  }
  expect(await boot(victim, { opId })).toMatchObject({ finding: 'ready' });
});

test('a host without room for what the guest writes is an error of the host, no finding about the point', async () => {
  const steps: Step[] = [{ do: 'write', fromBytes: MiB, toBytes: 60 * MiB }, ...READY_STEPS];
  const victim = await subject('writes', { steps });
  const opId = host.op('boot');
  const directory = host.path('ops');
  run('mount', '-t', 'tmpfs', '-o', 'mode=711,size=18m', 'tmpfs', directory);
  try {
    await expect(boot(victim, { opId })).rejects.toMatchObject({
      code: 'disk.full',
      message: expect.stringContaining(`goes to ${host.path('ops', opId)}`) as string,
    });
    expect(await left()).toEqual([`mount ${directory}`]);
    await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
    run('mount', '-o', 'remount,size=8m', directory);
    await expect(boot(victim)).rejects.toMatchObject({ code: 'disk.full' });
  } finally {
    run('umount', directory);
  }
});

describe('a repository with a damaged pack', () => {
  test('the guest gets no wrong byte: its boot is found to fail, and the check names disk and range', async () => {
    const victim = await subject('damaged', { steps: [READ_ALL, ...READY_STEPS], random: true });
    // Only this machine's data is in the newest packs; the boot reads all of it.
    const pack = newestPack();
    const at = Math.floor(statSync(pack).size / 2);
    flip(pack, at);
    try {
      const summary = await boot(victim);
      expect(summary.finding).toBe('disk-failed');
      expect(summary.explanation).toMatch(/could not be read/);
      expect(readFileSync(summary.consoleLogPath, 'latin1')).not.toContain(TINY_READY);
      expect(summary.screenshotPaths.at(-1)).toMatch(/screen\.png$/);
      expect(await left()).toEqual([]);

      for (const level of ['ciphertext', 'content'] as const) {
        const check = await host.engine.checkPoint({ machine: victim.machine.name, level }, verbContext());
        expect(check.pointId).toBe(victim.pointId);
        expect(check.damage).toHaveLength(1);
        const [{ disk, offsetBytes, lengthBytes, what } = { disk: '', offsetBytes: 0, lengthBytes: 0, what: '' }] =
          check.damage;
        expect([disk, lengthBytes]).toEqual(['vda', MiB]);
        expect(offsetBytes).toBeGreaterThanOrEqual(MiB);
        expect(offsetBytes + lengthBytes).toBeLessThanOrEqual(6 * MiB);
        expect(what).toContain(pack.slice(-64));
      }
    } finally {
      flip(pack, at);
    }
    expect(await boot(victim)).toMatchObject({ finding: 'ready' });
    const check = await host.engine.checkPoint({ machine: victim.machine.name, level: 'content' }, verbContext());
    expect(check.damage).toEqual([]);
  });
});

function newestPack(): string {
  const packs = readdirSync(host.path('repository', 'data'), { recursive: true, encoding: 'utf8' })
    .map((name) => join(host.path('repository', 'data'), name))
    .filter((path) => statSync(path).isFile() && statSync(path).size > 4 * MiB)
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  const [newest] = packs;
  if (newest === undefined) throw new Error('the repository has no large pack');
  return newest;
}

function flip(path: string, at: number): void {
  const file = openSync(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, at);
    byte.writeUInt8(byte.readUInt8() ^ 0x10);
    writeSync(file, byte, 0, 1, at);
  } finally {
    closeSync(file);
  }
}
