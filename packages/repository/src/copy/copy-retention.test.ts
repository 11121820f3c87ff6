import { parseMachineId } from '@lifeboat/foundation/ids';
import { describe, expect, test } from 'vitest';

import type { Act } from '../format/ledger-entry.ts';
import type { Repository } from '../repository.ts';
import { ledgerName } from '../retention/ledger.ts';
import { retentionPolicy } from '../retention/policy.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { CHEAP_SCRYPT, initTiny, MACHINE, pointId } from '../testing/tiny.ts';
import { copyHolds, copyPolicies } from './copy-retention.ts';

const OTHER = parseMachineId('machine-2');
const act = (repository: Repository, what: Act, reason = 'a lawsuit') =>
  repository.retention.perform({ act: what, reason });
const keeps = (last: number) => retentionPolicy({ last });

async function between(): Promise<{ source: Repository; target: Repository; store: MemoryStore }> {
  const store = new MemoryStore();
  return { source: await initTiny(store), target: await initTiny(new MemoryStore()), store };
}

const holdsOf = async (repository: Repository): Promise<(string | undefined)[][]> =>
  [...(await repository.retention.state()).holds.values()].map(({ machineId, pointId: point, reason }) => [
    machineId,
    point,
    reason,
  ]);

describe('holds', () => {
  test('are set in the copy, once, and stay when they are lifted in the source', async () => {
    const { source, target } = await between();
    const { entry = 0 } = await act(source, { kind: 'hold', machineId: MACHINE, pointId: pointId(1) });
    await act(source, { kind: 'hold', machineId: OTHER });
    expect(await copyHolds({ source, target, machineId: OTHER })).toEqual({ set: 1, lostEntries: [] });
    expect(await copyHolds({ source, target })).toEqual({ set: 1, lostEntries: [] });
    expect(await copyHolds({ source, target })).toEqual({ set: 0, lostEntries: [] });
    await act(source, { kind: 'lift', hold: entry });
    await copyHolds({ source, target });
    const expected = [
      [OTHER, undefined, 'a lawsuit'],
      [MACHINE, pointId(1), 'a lawsuit'],
    ];
    expect(await holdsOf(target)).toEqual(expected);
  });

  test('that may be missing, because entries of the source are lost, are told', async () => {
    const { source, target, store } = await between();
    await act(source, { kind: 'hold', machineId: MACHINE });
    await act(source, { kind: 'hold', machineId: OTHER });
    store.objects.set(ledgerName(source.core, 1), Buffer.from('rotten'));
    expect(await copyHolds({ source, target })).toEqual({ set: 1, lostEntries: [1] });
    await expect(copyPolicies({ source, target })).rejects.toMatchObject({ code: 'repository.retention-unreadable' });
  });
});

describe('policies', () => {
  test('are set where the copy has none, and never in place of its own', async () => {
    const { source, target } = await between();
    await act(source, { kind: 'policy', policy: keeps(2) });
    await act(source, { kind: 'policy', machineId: MACHINE, policy: keeps(3) });
    await act(source, { kind: 'policy', machineId: OTHER, policy: keeps(4) });
    await act(target, { kind: 'policy', machineId: OTHER, policy: keeps(99) });
    expect(await copyPolicies({ source, target })).toEqual({ set: 2, requested: 0 });
    expect(await copyPolicies({ source, target })).toEqual({ set: 0, requested: 0 });
    const { policies, defaultPolicy } = await target.retention.state();
    const entries = [...policies].map(([machine, { policy }]) => [machine, policy.last]);
    expect([Object.fromEntries(entries), defaultPolicy?.policy.last]).toEqual([{ [MACHINE]: 3, [OTHER]: 99 }, 2]);
  });

  test('are asked for where the copy wants four eyes', async () => {
    const { source, target } = await between();
    await act(source, { kind: 'policy', policy: keeps(2) });
    await target.keys.add({ secret: { passphrase: 'second' }, label: 'second', scryptCost: CHEAP_SCRYPT });
    await act(target, { kind: 'guard', guard: { fourEyes: true, delayMs: 0 } });
    expect(await copyPolicies({ source, target })).toEqual({ set: 0, requested: 1 });
    expect((await target.retention.state()).defaultPolicy).toBeUndefined();
  });
});
