import type { Clock } from '@lifeboat/foundation/clock';
import { expect, test } from 'vitest';

import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { initTiny, MACHINE } from '../testing/tiny.ts';
import { copyObjects } from './copy-objects.ts';

test('what counts of each object comes over, once, and replaces nothing newer', async () => {
  let nowMs = 1000;
  const clock: Clock = { nowMs: () => nowMs++, monotonicMs: () => 0, sleep: () => Promise.resolve() };
  const [source, target] = [await initTiny(new MemoryStore(), { clock }), await initTiny(new MemoryStore(), { clock })];
  const put = (on: Repository, id: string, text: string, kind = 'machine') =>
    on.writeObject({ kind, id }, () => ({ schema: 'note/1', payload: Buffer.from(text) }));
  const copy = (machineId?: typeof MACHINE) => copyObjects(source.core, target.core, { machineId });
  const said = async (): Promise<string[]> => {
    const states = [...(await target.objects('machine')), ...(await target.objects('runbook'))];
    return states.map(
      ({ id, current }) => `${id} ${current?.version} ${Buffer.from(current?.payload ?? '-').toString()}`,
    );
  };
  await put(source, MACHINE, 'old');
  await put(source, MACHINE, 'new');
  await put(source, 'b', 'b');
  await put(source, 'r', 'r', 'runbook');
  await copy(MACHINE);
  expect(await said()).toEqual([`${MACHINE} 1 new`]);
  await copy();
  await copy();
  expect(await said()).toEqual(expect.arrayContaining([`${MACHINE} 1 new`, 'b 1 b', 'r 1 r']));
  await put(target, 'b', 'mine');
  await source.writeObject({ kind: 'machine', id: MACHINE }, () => 'delete');
  await copy();
  expect((await said()).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['b 2 mine', `${MACHINE} 2 -`, 'r 1 r']);
});
