import { execFileSync } from 'node:child_process';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assert, asyncProperty, integer } from 'fast-check';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { parseOpId } from '@lifeboat/foundation/ids';
import { jsonLog, silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { runTool } from './children.ts';
import {
  declareExport,
  exportFiles,
  exportsDirectory,
  readExportStatus,
  waitExportReady,
  withdrawExport,
  type ExportDeclaration,
  type ExportStatus,
} from './exports.ts';
import { openStateRoot } from './state.ts';
import { SupervisedExport } from './supervised-export.ts';
import { runSupervisor } from './supervisor.ts';
import { scratchDirectory } from './testing/scratch.ts';
import { eventually, isGone, moduleUrl, startVictim, type Victim } from './testing/victim.ts';

/** A Node that starts on a busy host takes seconds. */
const timeoutMs = 20_000;
let root: string;
/** Every process a test saw, to be ended whatever the test did: they outlive the supervisor on purpose. */
let seen: Set<number>;

async function freshState(): Promise<void> {
  root = (await openStateRoot(await scratchDirectory(), systemRandom)).path;
  const directory = exportsDirectory(root);
  onTestFinished(async () => {
    for (const file of (await readdir(directory)).filter((name) => name.endsWith('.pid'))) {
      seen.add(Number.parseInt(await readFile(join(directory, file), 'utf8'), 10));
    }
    // The keeper of a process that is gone ends by itself.
    for (const pid of seen) if (!(await isGone(pid))) process.kill(pid, 'SIGKILL');
  });
}

beforeEach(async () => {
  seen = new Set();
  await freshState();
});

/** An nbdkit that serves 1 MiB of memory. */
function disk(name: string, changes: Partial<ExportDeclaration> = {}): ExportDeclaration {
  const socketPath = join(root, `${name}.sock`);
  const args = ['--foreground', '--unix', socketPath, 'memory', '1M'];
  return { name, opId: parseOpId('op-1'), command: 'nbdkit', args, socketPath, socketForQemu: false, ...changes };
}

async function ready(name: string): Promise<ExportStatus & { pid: number }> {
  const status = await waitExportReady(root, name, { timeoutMs });
  const pid = status.process?.pid ?? 0;
  seen.add(pid);
  return { ...status, pid };
}

/** The nbdkit processes of this test, however many there are. */
async function running(): Promise<number[]> {
  const { stdout } = await runTool('pgrep', ['--exact', '--list-full', 'nbdkit'], { timeoutMs, okCodes: [0, 1] });
  const pids = stdout.split('\n').flatMap((line) => (line.includes(root) ? [Number.parseInt(line, 10)] : []));
  for (const pid of pids) seen.add(pid);
  return pids;
}

/** Pauses and limits pass ten times as fast. */
const hastyClock: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => systemClock.monotonicMs() * 10,
  sleep: (ms, signal) => systemClock.sleep(ms / 10, signal),
};

/** A supervisor in this process; ends with the test. Its log lines are collected. */
function supervise(clock = systemClock): { stop: () => Promise<void>; lines: string[] } {
  const abort = new AbortController();
  const lines: string[] = [];
  const log = jsonLog((line) => lines.push(line));
  const running = runSupervisor({ stateRoot: root, log, clock, signal: abort.signal });
  const stop = async (): Promise<void> => {
    abort.abort();
    await running;
  };
  onTestFinished(stop);
  return { stop, lines };
}

/** A supervisor in a process of its own, to be killed. */
function superviseElsewhere(): Victim {
  return startVictim(`
    import { runSupervisor } from ${moduleUrl('supervisor.ts')};
    import { systemClock } from '@lifeboat/foundation/clock';
    import { silentLog } from '@lifeboat/foundation/log';
    await runSupervisor({ stateRoot: ${JSON.stringify(root)}, log: silentLog, clock: systemClock, signal: new AbortController().signal });`);
}

const sizeOf = async ({ socketPath }: ExportDeclaration): Promise<string> =>
  (await runTool('nbdinfo', ['--size', `nbd+unix:///?socket=${socketPath}`], { timeoutMs })).stdout.trim();

describe('wishes', () => {
  test('a declared export is served, and a withdrawn one leaves nothing', async () => {
    supervise();
    const declared = disk('vda');
    await declareExport(root, declared);
    const status = await ready('vda');
    expect(status).toMatchObject({ ready: true, restarts: 0 });
    expect(await sizeOf(declared)).toBe('1048576');
    await withdrawExport(root, 'vda');
    expect(await isGone(status.pid)).toBe(true);
    expect(await readdir(exportsDirectory(root))).toEqual(['supervisor.lock']);
    await withdrawExport(root, 'vda');
  });

  test('what was declared before the supervisor started is served too, several at once', async () => {
    for (const name of ['vda', 'vdb', 'vdc']) await declareExport(root, disk(name));
    await expect(waitExportReady(root, 'vda', { timeoutMs: 100 })).rejects.toThrow(/not started; no supervisor runs/);
    supervise();
    for (const name of ['vda', 'vdb', 'vdc']) expect((await ready(name)).restarts).toBe(0);
  });

  test('a name stands for one thing; the same again is fine; nonsense is refused', async () => {
    await declareExport(root, disk('vda'));
    await declareExport(root, disk('vda'));
    await expect(declareExport(root, disk('vda', { args: ['other'] }))).rejects.toMatchObject({
      code: 'host.export-conflict',
    });
    await expect(declareExport(root, disk('../vda'))).rejects.toMatchObject({ code: 'input.invalid' });
    await expect(declareExport(root, disk('vdb', { socketPath: 'relative.sock' }))).rejects.toMatchObject({
      code: 'input.invalid',
    });
    const socketPath = `/${'x'.repeat(107)}`;
    await expect(declareExport(root, disk('vdb', { socketPath }))).rejects.toMatchObject({
      code: 'host.path-too-long',
    });
  });

  test("a socket meant for QEMU belongs to QEMU's account", async () => {
    supervise();
    const declared = disk('vda', { socketForQemu: true });
    await declareExport(root, declared);
    await ready('vda');
    const { stdout } = await runTool('getent', ['passwd', 'libvirt-qemu'], { timeoutMs, okCodes: [0, 2] });
    const expected = process.getuid?.() === 0 && stdout !== '' ? Number(stdout.split(':')[2]) : process.getuid?.();
    expect((await stat(declared.socketPath)).uid).toBe(expected);
  });

  test('one supervisor per host', async () => {
    supervise();
    await declareExport(root, disk('vda'));
    await ready('vda');
    const second = runSupervisor({
      stateRoot: root,
      log: jsonLog(() => {}),
      clock: systemClock,
      signal: new AbortController().signal,
    });
    await expect(second).rejects.toMatchObject({ code: 'host.supervisor-running' });
  });
});

describe('deaths', () => {
  test('a killed process is started again, over the socket it left', async () => {
    supervise();
    const declared = disk('vda');
    await declareExport(root, declared);
    const before = await ready('vda');
    process.kill(before.pid, 'SIGKILL');
    await eventually('it was started again', async () => {
      const now = await readExportStatus(root, 'vda');
      return now?.ready === true && now.process?.pid !== before.pid;
    });
    expect(await ready('vda')).toMatchObject({ restarts: 1, lastExit: 'signal 9' });
    expect(await sizeOf(declared)).toBe('1048576');
  });

  test('one that cannot start is tried with growing pauses, and the waiter learns why', async () => {
    const { lines } = supervise(hastyClock);
    const pauses = (): unknown[] =>
      lines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .flatMap(({ backoffMs }) => (backoffMs === undefined ? [] : [backoffMs]));
    await declareExport(root, disk('bad', { args: ['--foreground', 'no-such-plugin'] }));
    await declareExport(root, disk('missing', { command: 'no-such-program' }));
    await declareExport(root, disk('good'));
    await ready('good');
    await eventually('all of its first starts failed', () => pauses().length >= 3);
    const failing = waitExportReady(root, 'bad', { timeoutMs: 100 });
    await expect(failing).rejects.toMatchObject({ code: 'host.export-not-ready', retry: 'transient' });
    await expect(failing).rejects.toThrow(/exit code 1; the supervisor runs/);
    expect(pauses().slice(0, 3)).toEqual([200, 400, 800]);
    expect(await readFile(join(exportsDirectory(root), 'bad.log'), 'utf8')).toMatch(/no-such-plugin/);
    // Said once, not at every look.
    expect(lines.filter((line) => line.includes('no-such-program'))).toHaveLength(1);
    await withdrawExport(root, 'bad');
    await withdrawExport(root, 'missing');
  });

  test('one that ignores TERM is killed', { timeout: 60_000 }, async () => {
    supervise(hastyClock);
    const script = 'trap "" TERM; nbdkit --foreground --unix "$0" memory 1M & while :; do sleep 1; done';
    const declared = disk('vda');
    await declareExport(root, { ...declared, command: 'sh', args: ['-c', script, declared.socketPath] });
    const started = await ready('vda');
    await withdrawExport(root, 'vda');
    expect(await isGone(started.pid)).toBe(true);
  });

  test('a damaged declaration starts nothing and ends nothing', async () => {
    const { lines } = supervise();
    await declareExport(root, disk('vda'));
    const before = await ready('vda');
    await writeFile(join(exportsDirectory(root), 'vda.json'), '{"format":1');
    await writeFile(join(exportsDirectory(root), 'vdb.json'), '{}');
    await eventually('both are reported', () =>
      ['vda', 'vdb'].every((name) => lines.some((line) => line.includes(`"${name}","problem"`))),
    );
    expect(await isGone(before.pid)).toBe(false);
    expect(await readExportStatus(root, 'vdb')).toBeUndefined();
  });
});

describe('death of the supervisor', () => {
  test('kill -9 leaves the exports running, and the next one adopts them', { timeout: 60_000 }, async () => {
    for (const name of ['vda', 'vdb']) await declareExport(root, disk(name));
    const first = superviseElsewhere();
    const before = [await ready('vda'), await ready('vdb')];
    await first.kill();
    for (const { pid } of before) expect(await isGone(pid)).toBe(false);
    expect(await sizeOf(disk('vda'))).toBe('1048576');

    // While nobody looked: one died, one was withdrawn.
    const { lines } = supervise();
    await eventually('both are adopted', () => lines.filter((line) => line.includes('export adopted')).length === 2);
    expect(await ready('vda')).toEqual(before[0]);
    await withdrawExport(root, 'vdb');
    expect(await isGone(before[1]?.pid as number)).toBe(true);
    expect(await isGone(before[0]?.pid as number)).toBe(false);
  });

  test('an orderly end leaves them running as well', async () => {
    await declareExport(root, disk('vda'));
    const supervisor = supervise();
    const started = await ready('vda');
    await supervisor.stop();
    expect(await isGone(started.pid)).toBe(false);
  });

  test('what died meanwhile is started, what was withdrawn meanwhile is stopped', { timeout: 60_000 }, async () => {
    for (const name of ['vda', 'vdb']) await declareExport(root, disk(name));
    const first = superviseElsewhere();
    const [vda, vdb] = [await ready('vda'), await ready('vdb')];
    await first.kill();
    process.kill(vda.pid, 'SIGKILL');
    const withdrawing = withdrawExport(root, 'vdb');
    supervise();
    await withdrawing;
    expect(await isGone(vdb.pid)).toBe(true);
    await eventually('vda runs again', async () => (await readExportStatus(root, 'vda'))?.process?.pid !== vda.pid);
    expect(await ready('vda')).toMatchObject({ restarts: 1 });
  });

  test(
    'a start by the supervisor before, late in its last moment, is adopted as it is',
    { timeout: 60_000 },
    async () => {
      await declareExport(root, disk('vda'));
      let first: Victim | undefined;
      // Asked between the look that finds nothing running and the start.
      const monotonicMs = (): number => {
        if (first) return systemClock.monotonicMs();
        first = superviseElsewhere();
        const { status } = exportFiles(root, 'vda');
        execFileSync('sh', ['-c', 'until grep -qs \'"ready":true\' "$0"; do sleep 0.05; done', status], {
          timeout: 30_000,
        });
        return systemClock.monotonicMs();
      };
      const second = new SupervisedExport('vda', {
        stateRoot: root,
        log: silentLog,
        clock: { ...systemClock, monotonicMs },
      });
      await second.reconcile();
      await first?.kill();
      await eventually('it is served', async () => {
        await second.reconcile();
        return (await readExportStatus(root, 'vda'))?.ready === true;
      });
      const { pid } = await ready('vda');
      expect(await running()).toEqual([pid]);
      expect(await sizeOf(disk('vda'))).toBe('1048576');
    },
  );

  test('killed -9 at any moment of a start, an export never runs twice', { timeout: 60_000 }, async () => {
    await assert(
      asyncProperty(integer({ min: 0, max: 40 }), async (delayMs) => {
        await freshState();
        await declareExport(root, disk('vda'));
        const first = superviseElsewhere();
        // The lock file is the first thing a start makes.
        await eventually('a start has begun', async () => (await readdir(exportsDirectory(root))).includes('vda.run'));
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await first.kill();
        const abort = new AbortController();
        const second = runSupervisor({ stateRoot: root, log: silentLog, clock: systemClock, signal: abort.signal });
        try {
          const { pid } = await ready('vda');
          expect(await running()).toEqual([pid]);
        } finally {
          await withdrawExport(root, 'vda');
          abort.abort();
          await second;
        }
        expect(await running()).toEqual([]);
      }),
      { numRuns: 5 },
    );
  });
});
