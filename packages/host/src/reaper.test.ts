import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseHostId, parseOpId, type OpId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { startChild } from './children.ts';
import { openOperation, type Operation } from './operation.ts';
import { reap, type ReapEntry, type ReapOptions } from './reaper.ts';
import type { Reapable, ReapableItem } from './reapable.ts';
import { openStateRoot, type StateRoot } from './state.ts';
import { scratchDirectory } from './testing/scratch.ts';
import { eventually, isGone, moduleUrl, startVictim } from './testing/victim.ts';

const op = (name: string): OpId => parseOpId(name);
const signal = new AbortController().signal;

async function freshState(): Promise<StateRoot> {
  return openStateRoot(await scratchDirectory(), systemRandom);
}

async function begun(state: StateRoot, opId: OpId, epoch = 0): Promise<Operation> {
  return openOperation({ stateRoot: state.path, opId, intent: { opId }, signal, epoch });
}

/** An operation nobody holds, as after kill -9. */
async function abandoned(state: StateRoot, opId: OpId, epoch = 0): Promise<string> {
  const operation = await begun(state, opId, epoch);
  await operation.record('fact', 1);
  await operation.close({ remove: false });
  return operation.directory;
}

function round(state: StateRoot, options: Partial<ReapOptions> = {}): Promise<ReapEntry[]> {
  const { path: stateRoot, hostId } = state;
  const defaults = { reapables: [], liveOps: new Set<OpId>(), epoch: 1, now: 1_700_000_000_000, undo: async () => {} };
  return reap({ stateRoot, hostId, ...defaults, ...options });
}

/** Domains in memory. */
class Domains implements Reapable {
  readonly names: Set<string>;
  readonly #items: ReapableItem[];
  failing: string | undefined;

  constructor(items: readonly Omit<ReapableItem, 'kind'>[]) {
    this.#items = items.map((item) => ({ kind: 'domain', ...item }));
    this.names = new Set(items.map(({ name }) => name));
  }

  list(): Promise<ReapableItem[]> {
    return Promise.resolve(this.#items.filter(({ name }) => this.names.has(name)));
  }

  remove({ name }: ReapableItem): Promise<void> {
    if (name === this.failing) return Promise.reject(new Error('domain is stuck'));
    this.names.delete(name);
    return Promise.resolve();
  }
}

const outcomes = (report: ReapEntry[]): string[] =>
  report.map(({ kind, name, outcome }) => `${kind} ${name} ${outcome}`);

describe('the rule', () => {
  test('removes what is tagged, unlocked and not live; keeps each of the rest', async () => {
    const state = await freshState();
    const running = await begun(state, op('running'));
    onTestFinished(() => running.close({ remove: true }));
    for (const name of ['dead', 'live']) await abandoned(state, op(name));
    await abandoned(state, op('newer'), 1);
    const foreign = parseHostId('h-other');
    const domains = new Domains([
      { name: 'lb-dead', opId: op('dead'), hostId: state.hostId },
      { name: 'lb-live', opId: op('live'), hostId: state.hostId },
      { name: 'lb-running', opId: op('running'), hostId: state.hostId },
      { name: 'lb-newer', opId: op('newer'), hostId: state.hostId },
      { name: 'lb-no-directory', opId: op('gone'), hostId: state.hostId },
      { name: 'lb-foreign', opId: op('dead'), hostId: foreign },
    ]);
    const report = await round(state, { reapables: [domains], liveOps: new Set([op('live')]) });
    expect(outcomes(report)).toEqual([
      'domain lb-dead removed',
      'operation dead removed',
      'domain lb-no-directory removed',
      'operation live kept',
      'operation newer kept',
      'operation running kept',
    ]);
    expect([...domains.names].sort()).toEqual(['lb-foreign', 'lb-live', 'lb-newer', 'lb-running']);
    expect((await readdir(join(state.path, 'ops'))).sort()).toEqual(['live', 'newer', 'running']);
    const reasons = report.filter(({ outcome }) => outcome === 'kept').map(({ reason }) => reason);
    expect(reasons).toEqual([
      expect.stringMatching(/live set/),
      expect.stringMatching(/epoch 1, .* epoch 1/),
      expect.stringMatching(/attempt/),
    ]);
    // A newer live set that does not name it: now it may go.
    expect(outcomes(await round(state, { reapables: [domains], liveOps: new Set([op('live')]), epoch: 2 }))).toContain(
      'operation newer removed',
    );
  });

  test('refuses a live set that is older than one it has seen', async () => {
    const state = await freshState();
    await round(state, { epoch: 7 });
    await abandoned(state, op('dead'));
    await expect(round(state, { epoch: 6 })).rejects.toMatchObject({ code: 'host.stale-epoch' });
    expect(await readdir(join(state.path, 'ops'))).toEqual(['dead']);
    expect(outcomes(await round(state, { epoch: 7 }))).toEqual(['operation dead removed']);
    await writeFile(join(state.path, 'reaper-epoch.json'), '{"epoch":"7"}');
    await expect(round(state, { epoch: 8 })).rejects.toMatchObject({ code: 'host.record-damaged' });
  });

  test('an attempt that begins while the reaper removes starts afresh, whole', async () => {
    const state = await freshState();
    for (let i = 0; i < 5; i++) {
      await abandoned(state, op('again'));
      const [, operation] = await Promise.all([round(state), begun(state, op('again'))]);
      await operation.record('fact', i);
      expect(await operation.recall('fact')).toBe(i);
      expect(await readdir(operation.directory)).toEqual(expect.arrayContaining(['intent.json', 'lock', 'qemu']));
      await operation.close({ remove: true });
    }
  });
});

describe('failures', () => {
  test('one does not stop the others, and keeps its directory for the next round', async () => {
    const state = await freshState();
    for (const name of ['a', 'b', 'c']) await abandoned(state, op(name));
    const domains = new Domains(
      ['a', 'b', 'c'].map((name) => ({ name: `lb-${name}`, opId: op(name), hostId: state.hostId })),
    );
    domains.failing = 'lb-b';
    const report = await round(state, { reapables: [domains] });
    expect(outcomes(report)).toEqual([
      'domain lb-a removed',
      'operation a removed',
      'domain lb-b failed',
      'operation b kept',
      'domain lb-c removed',
      'operation c removed',
    ]);
    domains.failing = undefined;
    expect(outcomes(await round(state, { reapables: [domains] }))).toEqual([
      'domain lb-b removed',
      'operation b removed',
    ]);
  });

  test('while a source cannot be asked no directory goes: what it would name may use it', async () => {
    const state = await freshState();
    await abandoned(state, op('dead'));
    const silent: Reapable = {
      list: () => Promise.reject(new Error('libvirtd is away')),
      remove: () => Promise.resolve(),
    };
    const report = await round(state, { reapables: [silent] });
    expect(outcomes(report)).toEqual(['list tagged items failed', 'operation dead kept']);
    expect(report[0]?.reason).toBe('libvirtd is away');
  });

  test('what an operation left half made is taken back first; while that fails, its directory stays', async () => {
    const state = await freshState();
    const directory = await abandoned(state, op('dead'));
    const asked: unknown[] = [];
    let stuck = true;
    const undo: ReapOptions['undo'] = async (operation) => {
      asked.push(operation);
      expect(await readdir(directory)).toContain('intent.json');
      if (stuck) throw new Error('the disk is away');
    };
    const report = await round(state, { undo });
    expect(report).toMatchObject([{ name: 'dead', outcome: 'failed', reason: 'the disk is away' }]);
    expect(await readdir(join(directory, 'facts'))).toEqual(['fact.json']);
    stuck = false;
    expect(outcomes(await round(state, { undo }))).toEqual(['operation dead removed']);
    const dead = { opId: 'dead', directory, intent: { opId: 'dead' } };
    expect(asked).toEqual([dead, dead]);
    expect(await readdir(join(state.path, 'ops'))).toEqual([]);
  });

  test('a directory that cannot be understood is kept and reported', async () => {
    const state = await freshState();
    const ops = join(state.path, 'ops');
    await writeFile(join(await abandoned(state, op('damaged')), 'intent.json'), '{');
    await writeFile(
      join(await abandoned(state, op('moved')), 'intent.json'),
      '{"format":1,"opId":"other","epoch":0,"intent":1}',
    );
    await mkdir(join(ops, 'no-intent'));
    await writeFile(join(ops, 'no-intent/disk.qcow2'), 'somebody needs this');
    await mkdir(join(ops, 'Not An Id'));
    // An attempt that died before its intent was written made nothing else.
    await mkdir(join(ops, 'barren'));
    await writeFile(join(ops, 'barren/intent.json.1-1.tmp'), '{');
    expect(outcomes(await round(state)).sort()).toEqual([
      'operation Not An Id kept',
      'operation barren removed',
      'operation damaged kept',
      'operation moved kept',
      'operation no-intent kept',
    ]);
    expect(await readdir(join(ops, 'no-intent'))).toContain('disk.qcow2');
  });

  test('links out of the directory are removed, not followed', async () => {
    const state = await freshState();
    const outside = await scratchDirectory();
    await writeFile(join(outside, 'precious'), 'x');
    const directory = await abandoned(state, op('dead'));
    await symlink(outside, join(directory, 'qemu/link'));
    await round(state);
    expect(await readdir(outside)).toEqual(['precious']);
  });
});

describe('after kill -9', () => {
  test('nothing of the operation is left: children, export, directory', { timeout: 30_000 }, async () => {
    const state = await freshState();
    const victim = startVictim(`
      import { openOperation } from ${moduleUrl('operation.ts')};
      import { startChild } from ${moduleUrl('children.ts')};
      import { declareExport } from ${moduleUrl('exports.ts')};
      const stateRoot = ${JSON.stringify(state.path)};
      const operation = await openOperation({ stateRoot, opId: 'op-1', intent: 1, signal: new AbortController().signal });
      const child = await startChild('sleep', ['600'], { directory: operation.directory, name: 'c' });
      await declareExport(stateRoot, { name: 'op-1-vda', opId: 'op-1', command: 'nbdkit', args: [],
        socketPath: operation.qemuDirectory + '/vda.sock', socketForQemu: true });
      console.log(child.pid);
      setInterval(() => {}, 1000);`);
    const pid = Number(await victim.nextLine());
    expect(outcomes(await round(state))).toEqual(['operation op-1 kept']);
    await victim.kill();
    await eventually('its child is gone', () => isGone(pid));
    expect(outcomes(await round(state))).toEqual([
      'export op-1-vda removed',
      'child c removed',
      'operation op-1 removed',
    ]);
    expect(await readdir(join(state.path, 'ops'))).toEqual([]);
    expect(await readdir(join(state.path, 'exports'))).toEqual([]);
  });

  test('a child that still runs is ended', async () => {
    const state = await freshState();
    const operation = await begun(state, op('dead'));
    const child = await startChild('sleep', ['600'], { directory: operation.directory, name: 'server' });
    onTestFinished(async () => void (await child.stop()));
    await operation.close({ remove: false });
    expect(outcomes(await round(state))).toEqual(['child server removed', 'operation dead removed']);
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });
});
