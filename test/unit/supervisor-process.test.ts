/** The supervisor as a process: it serves what is declared, whoever declared it dies, and its own end ends nothing. */
import { once } from 'node:events';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { waitExportReady, withdrawExport } from '@lifeboat/host/exports';
import { identifyProcess } from '@lifeboat/host/process-identity';

const MAIN = fileURLToPath(import.meta.resolve('@lifeboat/agent/supervisor-main'));
const EXPORTS = import.meta.resolve('@lifeboat/host/exports');
const timeoutMs = 20_000;

let root: string;
let supervisors: ChildProcess[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lb-'));
  supervisors = [];
});
afterEach(async () => {
  for (const child of supervisors) await stop(child, 'SIGKILL');
  rmSync(root, { recursive: true });
});

function supervise(): ChildProcess {
  const child = spawn(process.execPath, [MAIN], {
    env: { ...process.env, LIFEBOAT_STATE: root },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  supervisors.push(child);
  return child;
}

/** Resolves with the exit code, or undefined when a signal ended it. */
async function stop(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<number | undefined> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal);
    await once(child, 'exit');
  }
  return child.exitCode ?? undefined;
}

/** A process that declares an nbdkit of 1 MiB and then does nothing more. */
async function declareAndDie(name: string): Promise<void> {
  const socketPath = join(root, `${name}.sock`);
  const args = ['--foreground', '--unix', socketPath, 'memory', '1M'];
  const declaration = { name, opId: 'op-1', command: 'nbdkit', args, socketPath, socketForQemu: false };
  const source = `
    import { declareExport } from ${JSON.stringify(EXPORTS)};
    await declareExport(${JSON.stringify(root)}, ${JSON.stringify(declaration)});
    console.log('declared');
    setInterval(() => {}, 1000);`;
  const author = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(author.stdout, 'data');
  await stop(author, 'SIGKILL');
}

test('it serves what a dead process declared, ends at SIGTERM without it, and the next one takes it over', async () => {
  const first = supervise();
  await once(first.stderr as NonNullable<ChildProcess['stderr']>, 'data');
  await declareAndDie('vda');
  const { process: served } = await waitExportReady(root, 'vda', { timeoutMs });
  const pid = served?.pid ?? 0;
  try {
    expect(await stop(first, 'SIGTERM')).toBe(0);
    expect(await identifyProcess(pid)).toEqual(served);
    const size = spawnSync('nbdinfo', ['--size', `nbd+unix:///?socket=${join(root, 'vda.sock')}`], {
      encoding: 'utf8',
    });
    expect([size.stderr, size.stdout.trim()]).toEqual(['', '1048576']);
    supervise();
    await withdrawExport(root, 'vda');
    expect(await identifyProcess(pid)).toBeUndefined();
  } finally {
    if (await identifyProcess(pid)) process.kill(pid, 'SIGKILL');
  }
});

test('a second one is refused, and says why', async () => {
  const first = supervise();
  await once(first.stderr as NonNullable<ChildProcess['stderr']>, 'data');
  const second = supervise();
  let said = '';
  second.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(second, 'close')) as [number];
  expect([said, code]).toEqual([expect.stringContaining('host.supervisor-running'), 1]);
});

test('it explains itself', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  expect(run('--help')).toMatchObject({ status: 0, stdout: expect.stringContaining('KillMode=process') as string });
  expect(run('now')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('Usage:') as string });
});
