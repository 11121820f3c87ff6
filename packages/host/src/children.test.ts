import { spawn } from 'node:child_process';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { killRecorded, runTool, startChild } from './children.ts';
import { identifyProcess } from './process-identity.ts';
import { scratchDirectory } from './testing/scratch.ts';
import { eventually, isGone, moduleUrl, startVictim } from './testing/victim.ts';

const timeoutMs = 10_000;

describe('runTool', () => {
  test('gives output, exit code and the arguments as they are', async () => {
    const hostile = '$(touch /tmp/x) "; \' \\ \n*';
    const result = await runTool('printf', ['%s|%s', hostile, ''], { timeoutMs });
    expect(result).toMatchObject({ stdout: `${hostile}|`, stderr: '', code: 0 });
  });

  test('feeds input and returns bytes as they are', async () => {
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) & 0xff);
    const result = await runTool('cat', [], { timeoutMs, stdin: bytes });
    expect(Buffer.compare(result.stdoutBytes, bytes)).toBe(0);
  });

  test('a program that does not read its input fails or succeeds by its own exit code', async () => {
    const result = await runTool('true', [], { timeoutMs, stdin: new Uint8Array(1024 * 1024) });
    expect(result.code).toBe(0);
  });

  test('a failure carries the exit code and the last of stderr', async () => {
    const failing = runTool('sh', ['-c', 'seq 100000 >&2; echo the reason >&2; exit 3'], { timeoutMs });
    await expect(failing).rejects.toMatchObject({
      code: 'host.tool-failed',
      context: { code: 3, stderr: expect.stringMatching(/the reason$/) as string },
    });
    await expect(failing).rejects.toThrow(/ended with code 3/);
  });

  test('an exit code that is announced is not a failure', async () => {
    expect((await runTool('sh', ['-c', 'exit 1'], { timeoutMs, okCodes: [0, 1] })).code).toBe(1);
  });

  test('a missing program names the Debian package', async () => {
    const env = process.env['PATH'];
    onTestFinished(() => {
      process.env['PATH'] = env;
    });
    await expect(runTool('no-such-program', [], { timeoutMs })).rejects.toMatchObject({ code: 'host.tool-missing' });
    await expect(runTool('/nowhere/ntfs-3g', [], { timeoutMs })).rejects.toThrow(/apt-get install ntfs-3g/);
    await expect(runTool('./relative', [], { timeoutMs })).rejects.toMatchObject({ code: 'host.tool-missing' });
    // An account that is not root often has no sbin in its PATH.
    process.env['PATH'] = '/nowhere';
    expect((await runTool('losetup', ['--version'], { timeoutMs })).stdout).toMatch(/losetup/);
  });

  test('a timeout kills the whole process group', async () => {
    const directory = await scratchDirectory();
    const script = `sleep 60 & echo $! >${directory}/pid; wait`;
    await expect(runTool('sh', ['-c', script], { timeoutMs: 300 })).rejects.toMatchObject({
      code: 'host.tool-timeout',
    });
    const grandchild = Number(await readFile(join(directory, 'pid'), 'utf8'));
    await eventually('the grandchild is gone', () => isGone(grandchild));
  });

  test('an abort kills it and throws the reason', async () => {
    const reason = new Error('enough');
    const running = runTool('sleep', ['60'], { timeoutMs, signal: abortedAfter(100, reason) });
    await expect(running).rejects.toBe(reason);
    await expect(runTool('true', [], { timeoutMs, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  test('more output than allowed is an error, not a cut answer', async () => {
    const endless = runTool('cat', ['/dev/zero'], { timeoutMs, maxOutputBytes: 1000 });
    await expect(endless).rejects.toMatchObject({ code: 'host.tool-output-too-big' });
    expect((await runTool('head', ['-c', '1000', '/dev/zero'], { timeoutMs, maxOutputBytes: 1000 })).code).toBe(0);
  });

  test('output held open by a background grandchild does not hold the call', async () => {
    const directory = await scratchDirectory();
    const result = await runTool('sh', ['-c', `sleep 30 & echo $! >${directory}/pid; echo done`], { timeoutMs });
    const grandchild = Number(await readFile(join(directory, 'pid'), 'utf8'));
    onTestFinished(() => {
      process.kill(grandchild, 'SIGKILL');
    });
    expect(result.stdout).toBe('done\n');
  });

  test('refuses to start from a worker thread, whose end would kill the child', async () => {
    const worker = new Worker(
      `import(${moduleUrl('children.ts')}).then(({ runTool }) => runTool('true', [], { timeoutMs: 1000 }))
        .then(() => 'started', (error) => error.code)
        .then((answer) => require('node:worker_threads').parentPort.postMessage(answer));`,
      { eval: true },
    );
    onTestFinished(async () => {
      await worker.terminate();
    });
    const answer = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    expect(answer).toBe('internal.bug');
  });
});

describe('startChild', () => {
  test('records pid and start time, keeps the output, stops on TERM', async () => {
    const directory = await scratchDirectory();
    const child = await startChild('sh', ['-c', 'echo hello; exec sleep 60'], { directory, name: 'proxy' });
    const recorded = JSON.parse(await readFile(join(directory, 'proxy.pid'), 'utf8')) as unknown;
    expect(recorded).toMatchObject({ ...(await identifyProcess(child.pid)) });
    await eventually('its output is there', () => child.outputTail() === 'hello');
    expect(child.exit).toBeUndefined();
    expect(await child.stop()).toEqual({ code: null, signal: 'SIGTERM' });
    expect(await child.stop()).toEqual(child.exit);
    expect(await readFile(child.logPath, 'utf8')).toBe('hello\n');
    expect(await readdir(directory)).toEqual(['proxy.log']);
  });

  test('kills a child that ignores TERM', async () => {
    const directory = await scratchDirectory();
    const child = await startChild('sh', ['-c', 'trap "" TERM; echo set; while :; do sleep 1; done'], {
      directory,
      name: 'stubborn',
    });
    await eventually('the trap is set', () => child.outputTail() === 'set');
    expect(await child.stop({ graceMs: 100 })).toEqual({ code: null, signal: 'SIGKILL' });
  });

  test('tells of an end nobody asked for, with the last words', async () => {
    const directory = await scratchDirectory();
    const child = await startChild('sh', ['-c', 'echo cannot open disk >&2; exit 7'], { directory, name: 'short' });
    expect(await child.exited).toEqual({ code: 7, signal: null });
    expect(child.outputTail()).toBe('cannot open disk');
    expect(await child.stop()).toEqual({ code: 7, signal: null });
  });

  test('the log keeps the newest output and stays under its limit', async () => {
    const directory = await scratchDirectory();
    const child = await startChild('seq', ['200000'], { directory, name: 'chatty', logLimitBytes: 10_000 });
    await child.exited;
    const older = await readFile(`${child.logPath}.1`, 'utf8');
    const newest = await readFile(child.logPath, 'utf8');
    expect(older.length + newest.length).toBeLessThanOrEqual(10_000);
    expect(`${older}${newest}`).toMatch(/199999\n200000\n$/);
  });
});

describe('kill -9 of the parent', () => {
  test('leaves no child, at whatever moment it comes', { timeout: 60_000 }, async () => {
    // Children are marked by a unique argument, so that one that was never announced is found as well.
    let round = 0;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 120 }), async (delayMs) => {
        const directory = await scratchDirectory();
        round += 1;
        const marker = `${86_400 + round}.${process.pid}`;
        const victim = startVictim(`
          import { runTool, startChild } from ${moduleUrl('children.ts')};
          console.log('up');
          for (let i = 0; ; i++) {
            await startChild('sleep', ['${marker}'], { directory: ${JSON.stringify(directory)}, name: 'c' + i });
            void runTool('sleep', ['${marker}'], { timeoutMs: 60000 });
          }`);
        expect(await victim.nextLine()).toBe('up');
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await victim.kill();
        await eventually('all children are gone', async () => (await processesWith(marker)).length === 0);
      }),
      { numRuns: 6 },
    );
  });
});

describe('killRecorded', () => {
  test('kills what a pid file names, once the start time matches', async () => {
    const directory = await scratchDirectory();
    const child = await startChild('sleep', ['60'], { directory, name: 'left' });
    expect(await killRecorded(directory)).toEqual([{ name: 'left', pid: child.pid, outcome: 'killed' }]);
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(await killRecorded(directory)).toEqual([]);
  });

  test('leaves a stranger alone who has the pid now, and forgets one who is gone', async () => {
    const directory = await scratchDirectory();
    const stranger = spawn('sleep', ['60']);
    onTestFinished(() => {
      stranger.kill('SIGKILL');
    });
    const identity = await identifyProcess(stranger.pid as number);
    await writeFile(join(directory, 'a.pid'), JSON.stringify({ ...identity, startTime: '17' }));
    await writeFile(join(directory, 'b.pid'), JSON.stringify({ ...identity, bootId: 'another boot' }));
    await writeFile(join(directory, 'c.pid'), JSON.stringify({ ...identity, pid: 2 ** 22 - 1 }));
    expect(await killRecorded(directory)).toEqual([
      { name: 'a', pid: stranger.pid, outcome: 'not-ours' },
      { name: 'b', pid: stranger.pid, outcome: 'not-ours' },
      { name: 'c', pid: 2 ** 22 - 1, outcome: 'gone' },
    ]);
    expect(await isGone(stranger.pid as number)).toBe(false);
    expect(await readdir(directory)).toEqual([]);
  });

  test('keeps and reports a pid file that names nobody', async () => {
    const directory = await scratchDirectory();
    const hostile = [
      '',
      'null',
      '{',
      '{"pid":-1,"startTime":"1","bootId":""}',
      '{"pid":1,"startTime":"1","bootId":""}',
    ];
    for (const [i, text] of hostile.entries()) await writeFile(join(directory, `${i}.pid`), text);
    await writeFile(join(directory, '5.pid'), Buffer.alloc(2 * 1024 * 1024));
    const results = await killRecorded(directory);
    expect(results.map(({ outcome }) => outcome)).toEqual(Array.from({ length: 6 }, () => 'unreadable'));
    expect((await stat(join(directory, '1.pid'))).size).toBe(4);
  });
});

function abortedAfter(ms: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), ms);
  return controller.signal;
}

async function processesWith(argument: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    let commandLine: string;
    try {
      commandLine = await readFile(`/proc/${entry}/cmdline`, 'utf8');
    } catch {
      continue; // ended while we looked
    }
    const parts = commandLine.split('\0');
    if (parts.includes(argument) && !(await isGone(Number(entry)))) found.push(Number(entry));
  }
  return found;
}
