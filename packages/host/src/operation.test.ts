import { readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseOpId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { startChild } from './children.ts';
import { takeLock } from './file-lock.ts';
import { openOperation, type OpenOptions, type Operation } from './operation.ts';
import { openStateRoot } from './state.ts';
import { scratchDirectory } from './testing/scratch.ts';
import { eventually, isGone, moduleUrl, startVictim, type Victim } from './testing/victim.ts';

const opId = parseOpId('op-1');
const intent = { verb: 'capture', machine: 'vm1' };

async function stateRoot(): Promise<string> {
  return (await openStateRoot(await scratchDirectory(), systemRandom)).path;
}

async function opened(root: string, options: Partial<OpenOptions> = {}): Promise<Operation> {
  const operation = await openOperation({
    stateRoot: root,
    opId,
    intent,
    signal: new AbortController().signal,
    ...options,
  });
  onTestFinished(() => operation.close({ remove: false }).catch(() => {})); // tests that make close fail look at it themselves
  return operation;
}

/** Another process that opens the operation, prints `open`, and then runs `body` with `operation`. */
function otherProcess(root: string, body = ''): Victim {
  return startVictim(`
    import { openOperation } from ${moduleUrl('operation.ts')};
    import { startChild } from ${moduleUrl('children.ts')};
    const operation = await openOperation({ stateRoot: ${JSON.stringify(root)}, opId: '${opId}',
      intent: ${JSON.stringify(intent)}, signal: new AbortController().signal });
    ${body}
    console.log('open');
    setInterval(() => {}, 1000);`);
}

describe('one attempt', () => {
  test('declares its intent first, keeps facts, cleans up backwards, and goes', async () => {
    const root = await stateRoot();
    const operation = await opened(root);
    const order: string[] = [];
    operation.onClose(() => void order.push('first'));
    operation.onClose(async () => void order.push('second'));
    expect(JSON.parse(await readFile(join(operation.directory, 'intent.json'), 'utf8'))).toEqual({
      format: 1,
      opId,
      epoch: 0,
      intent,
    });
    await operation.record('point-id', { id: 'p1' });
    expect(await operation.recall('point-id')).toEqual({ id: 'p1' });
    expect(await operation.recall('other')).toBeUndefined();
    await expect(async () => operation.record('../intent', 1)).rejects.toMatchObject({ code: 'input.invalid' });
    await operation.close({ remove: true });
    await operation.close({ remove: true });
    expect(order).toEqual(['second', 'first']);
    expect(await readdir(join(root, 'ops'))).toEqual([]);
    expect(() => operation.onClose(() => {})).toThrow(/after its close/);
  });

  test('a cleanup that fails does not stop the others, keeps the directory and lets go of the lock', async () => {
    const root = await stateRoot();
    const operation = await opened(root);
    const done: string[] = [];
    operation.onClose(() => void done.push('last'));
    operation.onClose(() => Promise.reject(new Error('network busy')));
    operation.onClose(() => void done.push('early'));
    const closing = operation.close({ remove: true });
    await expect(closing).rejects.toMatchObject({ code: 'host.cleanup-failed' });
    await expect(closing).rejects.toThrow(/network busy/);
    expect(done).toEqual(['early', 'last']);
    const again = await opened(root);
    expect(again.directory).toBe(operation.directory);
  });

  test('facts outlive the attempt; a damaged one is an error, not absence', async () => {
    const root = await stateRoot();
    const first = await opened(root);
    await first.record('position', 42);
    await first.close({ remove: false });
    const second = await opened(root);
    expect(await second.recall('position')).toBe(42);
    await writeFile(join(second.directory, 'facts/position.json'), '{"cut":');
    await expect(second.recall('position')).rejects.toMatchObject({ code: 'host.record-damaged' });
  });

  test('an id is for one intent only; a damaged intent is not overwritten', async () => {
    const root = await stateRoot();
    const first = await opened(root);
    await first.close({ remove: false });
    const other = opened(root, { intent: { verb: 'restore', machine: 'vm1' } });
    await expect(other).rejects.toMatchObject({ code: 'host.intent-mismatch' });
    await expect(other).rejects.toThrow(/capture.*restore/);
    // The order of keys and values that JSON drops are no difference.
    await (
      await opened(root, { intent: { machine: 'vm1', verb: 'capture', point: undefined } })
    ).close({ remove: false });
    const path = join(first.directory, 'intent.json');
    for (const text of ['', '{}', JSON.stringify({ format: 1, opId: 'op-2', epoch: 0, intent })]) {
      await writeFile(path, text);
      await expect(opened(root)).rejects.toMatchObject({ code: 'host.record-damaged' });
      expect(await readFile(path, 'utf8')).toBe(text);
    }
  });

  test('an abort before or during opening is the reason it fails, and leaves no lock', async () => {
    const root = await stateRoot();
    const reason = new Error('enough');
    await expect(opened(root, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const holder = otherProcess(root);
    expect(await holder.nextLine()).toBe('open');
    const abort = new AbortController();
    const waiting = opened(root, { signal: abort.signal });
    setTimeout(() => abort.abort(reason), 200);
    await expect(waiting).rejects.toBe(reason);
    await holder.kill();
    await opened(root);
  });
});

describe('two attempts in one process', () => {
  test('the newer aborts the older and starts once it let go', async () => {
    const root = await stateRoot();
    const older = await opened(root);
    const events: string[] = [];
    older.signal.addEventListener('abort', () => {
      events.push('older aborted');
      setTimeout(() => {
        events.push('older closes');
        void older.close({ remove: false });
      }, 100);
    });
    await opened(root);
    events.push('newer open');
    expect(events).toEqual(['older aborted', 'older closes', 'newer open']);
    expect(older.signal.reason).toMatchObject({ code: 'host.operation-superseded', retry: 'transient' });
  });

  test('the newer fails, transient, if the older does not let go; a later one can', async () => {
    const root = await stateRoot();
    const older = await opened(root);
    const refused = opened(root, { takeoverMs: 200 });
    await expect(refused).rejects.toMatchObject({ code: 'host.operation-busy', retry: 'transient' });
    await older.close({ remove: false });
    await opened(root);
  });

  test('of many at once exactly the newest is left', async () => {
    const root = await stateRoot();
    let holders = 0;
    const attempts = Array.from({ length: 6 }, async () => {
      const operation = await opened(root);
      holders += 1;
      expect(holders).toBe(1);
      if (!operation.signal.aborted) {
        await Promise.race([
          new Promise((resolve) => operation.signal.addEventListener('abort', resolve)),
          new Promise((resolve) => setTimeout(resolve, 300)),
        ]);
      }
      holders -= 1;
      const superseded = operation.signal.aborted;
      await operation.close({ remove: false });
      if (superseded) throw operation.signal.reason as Error;
    });
    const results = await Promise.allSettled(attempts);
    expect(results.map(({ status }) => status)).toEqual([...Array.from({ length: 5 }, () => 'rejected'), 'fulfilled']);
  });

  test('an attempt that removes the directory hands a fresh one to the next', async () => {
    const root = await stateRoot();
    const older = await opened(root);
    await older.record('position', 1);
    older.signal.addEventListener('abort', () => void older.close({ remove: true }));
    const newer = await opened(root);
    expect(await newer.recall('position')).toBeUndefined();
    expect(await readdir(newer.directory)).toEqual(expect.arrayContaining(['intent.json', 'lock', 'qemu']));
  });
});

describe('two processes', () => {
  test('one waits for the other, bounded, and takes over after kill -9', { timeout: 30_000 }, async () => {
    const root = await stateRoot();
    const child = `const child = await startChild('sleep', ['600'], { directory: operation.directory, name: 'c' });`;
    const other = otherProcess(root, child);
    expect(await other.nextLine()).toBe('open');
    await expect(opened(root, { takeoverMs: 300 })).rejects.toMatchObject({ code: 'host.operation-busy' });
    const pidPath = join(root, 'ops/op-1/c.pid');
    const { pid } = JSON.parse(await readFile(pidPath, 'utf8')) as { pid: number };
    const waiting = opened(root);
    await other.kill();
    const operation = await waiting;
    expect(operation.leftovers).toEqual([expect.objectContaining({ kind: 'child', name: 'c', gone: true })]);
    expect(await isGone(pid)).toBe(true);
    await expect(stat(pidPath)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('a child that outlived its parent is ended before the next attempt starts', async () => {
    const root = await stateRoot();
    const first = await opened(root);
    // Ours, so that it lives on: stands for a child whose death signal failed.
    const child = await startChild('sleep', ['600'], { directory: first.directory, name: 'server' });
    onTestFinished(async () => void (await child.stop()));
    await first.close({ remove: false });
    const second = await opened(root);
    expect(second.leftovers).toEqual([
      { kind: 'child', name: 'server', gone: true, detail: `killed, pid ${child.pid}` },
    ]);
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });

  test('killed -9 at any moment of opening, the next attempt succeeds', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 250 }), fc.boolean(), async (delayMs, remove) => {
        const root = await stateRoot();
        const victim = startVictim(`
          import { openOperation } from ${moduleUrl('operation.ts')};
          console.log('up');
          for (;;) {
            const operation = await openOperation({ stateRoot: ${JSON.stringify(root)}, opId: '${opId}',
              intent: ${JSON.stringify(intent)}, signal: new AbortController().signal });
            await operation.record('n', 1);
            await operation.close({ remove: ${remove} });
          }`);
        expect(await victim.nextLine()).toBe('up');
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await victim.kill();
        const next = await opened(root);
        await next.close({ remove: true });
        expect(await readdir(join(root, 'ops'))).toEqual([]);
      }),
      { numRuns: 8 },
    );
  });
});

describe('takeLock', () => {
  test('is not kept by children of ours, and not fooled by a lock file that was replaced', async () => {
    const directory = await scratchDirectory();
    const path = join(directory, 'lock');
    const first = await takeLock(path, { waitMs: 0 });
    const child = await startChild('sleep', ['60'], { directory, name: 'c' });
    onTestFinished(async () => void (await child.stop()));
    expect(await takeLock(path, { waitMs: 0 })).toBeUndefined();
    const waiting = takeLock(path, { waitMs: 5000 });
    const { ino } = await stat(path);
    const waiter = new RegExp(`-> FLOCK .*:${ino} 0 EOF`);
    await eventually('somebody waits', async () => waiter.test(await readFile('/proc/locks', 'utf8')));
    await rm(path);
    await first?.release();
    const second = await waiting;
    // The waiter holds a lock on what the path leads to now, not on the removed file.
    expect(await takeLock(path, { waitMs: 0 })).toBeUndefined();
    await second?.release();
    await second?.release();
    const third = await takeLock(path, { waitMs: 0 });
    expect(third).toBeDefined();
    await third?.release();
  });
});
