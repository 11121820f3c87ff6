import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import { reap } from '@lifeboat/host/reaper';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { EngineDeps } from '../deps.ts';
import { reapableJobs } from './reapable-jobs.ts';

const MACHINE = '6695eb01-f6a4-8304-79aa-97f2502e193f';

test('one operation whose records are damaged is kept, and nothing else is for its sake', async () => {
  const stateRoot = await scratchDirectory();
  const hostId = parseHostId('h-0123456789abcdef');
  const begun = JSON.stringify({ machineId: MACHINE, pointId: 'p20260101T000000Z-00000000' });
  const place = (name: string, text: string): void => {
    const directory = join(stateRoot, 'ops', name);
    mkdirSync(join(directory, 'facts'), { recursive: true });
    writeFileSync(join(directory, 'lock'), '');
    writeFileSync(
      join(directory, 'intent.json'),
      JSON.stringify({ format: 1, opId: name, epoch: 0, intent: { verb: 'capture', machine: 'web' } }),
    );
    writeFileSync(join(directory, 'facts/begun.json'), text);
  };
  place('damaged', 'no json');
  place('foreign', '{"machineId":"no id"}');
  place('left-a-job', begun);
  place('no-job', begun);
  mkdirSync(join(stateRoot, 'ops/lost+found'));
  mkdirSync(join(stateRoot, 'exports'));

  const ended: string[] = [];
  const deps = {
    stateRoot,
    hostId,
    log: { warn: () => {} },
    hypervisor: {
      currentBackup: async () => ({ ours: true, directory: join(stateRoot, 'ops/left-a-job/qemu') }),
      endBackup: async (_: string, directory: string) => void ended.push(directory),
      deleteCheckpoint: async () => {},
    },
    repository: { points: async () => [] },
  } as unknown as EngineDeps;
  const report = await reap({
    stateRoot,
    hostId,
    reapables: [reapableJobs(deps)],
    liveOps: new Set(),
    epoch: 1,
    now: 0,
    undo: async () => {},
  });
  const outcomes = report.filter(({ kind }) => kind === 'operation').map(({ name, outcome }) => [name, outcome]);
  expect(Object.fromEntries(outcomes)).toEqual({
    damaged: 'kept',
    foreign: 'kept',
    'left-a-job': 'removed',
    'no-job': 'removed',
    'lost+found': 'kept',
  });
  expect(ended).toEqual([join(stateRoot, 'ops', parseOpId('left-a-job'), 'qemu')]);
});
