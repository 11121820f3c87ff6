import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HOST_WAITING_LIMIT } from '@lifeboat/contracts/workflow/host';
import type { HostResources, LeaseRequest } from '@lifeboat/contracts/workflow/host';
import { HostState } from '@lifeboat/workflows/host-state';
import type { Answer } from '@lifeboat/workflows/host-state';

const capacity: HostResources = { slots: 3, domains: 2, scratchBytes: 100 };
const one: HostResources = { slots: 1, domains: 0, scratchBytes: 0 };
const request = (holder: string, need: HostResources = one): LeaseRequest => ({
  holder,
  need,
  opIds: [`op-${holder}`],
});

function fresh(): HostState {
  const state = new HostState({ hostId: 'a' }, 1_000);
  state.register({ capacity, apiLevel: 1 }, 1_000);
  return state;
}

function answers(state: HostState): Answer[] {
  const taken: Answer[] = [];
  for (let next = state.takeAnswer(); next; next = state.takeAnswer()) taken.push(next);
  return taken;
}

describe('the host grants', () => {
  test('nothing before an agent has said what there is', () => {
    const state = new HostState({ hostId: 'a' }, 1_000);
    state.request(request('x'), 1_000);
    expect(answers(state)).toEqual([]);
    state.register({ capacity, apiLevel: 1 }, 1_000);
    expect(answers(state)).toEqual([{ holder: 'x', answer: { kind: 'granted', epoch: 1_001 } }]);
  });

  test('in order: a small request does not pass a large one that waits', () => {
    const state = fresh();
    state.request(request('first', { ...one, slots: 2 }), 0);
    state.request(request('large', { ...one, slots: 2 }), 0);
    state.request(request('small'), 0);
    expect(answers(state).map(({ holder }) => holder)).toEqual(['first']);
    state.release('first', 0);
    expect(answers(state).map(({ holder }) => holder)).toEqual(['large', 'small']);
  });

  test('the same answer again to who asks again, at the same epoch', () => {
    const state = fresh();
    state.request(request('x'), 0);
    const [first] = answers(state);
    state.request(request('x'), 5);
    expect(answers(state)).toEqual([first]);
    expect(state.status().used.slots).toBe(1);
  });

  test('nothing that can never fit, nor to more than it remembers', () => {
    const state = fresh();
    state.request(request('huge', { ...one, scratchBytes: 101 }), 0);
    expect(answers(state)[0]?.answer).toMatchObject({ kind: 'refused', reason: expect.stringContaining('101 bytes') });
    for (let n = 0; n < capacity.slots + HOST_WAITING_LIMIT; n++) state.request(request(`r${n}`), 0);
    expect(answers(state).every(({ answer }) => answer.kind === 'granted')).toBe(true);
    state.request(request('one-too-many'), 0);
    expect(answers(state)).toMatchObject([{ holder: 'one-too-many', answer: { kind: 'refused' } }]);
  });

  test('a refusal does not hold back those behind it', () => {
    const state = new HostState({ hostId: 'a' }, 0);
    state.request(request('huge', { ...one, slots: 9 }), 0);
    state.request(request('x'), 0);
    state.register({ capacity, apiLevel: 1 }, 0);
    expect(answers(state).map(({ holder, answer }) => [holder, answer.kind])).toEqual([
      ['huge', 'refused'],
      ['x', 'granted'],
    ]);
  });

  test('nothing new after a lower capacity, and takes nothing away', () => {
    const state = fresh();
    for (const holder of ['a', 'b', 'c']) state.request(request(holder), 0);
    state.register({ capacity: { ...capacity, slots: 1 }, apiLevel: 1 }, 0);
    state.request(request('d'), 0);
    state.release('a', 0);
    state.release('b', 0);
    expect(state.holders).toEqual(['c', 'd']);
    state.release('c', 0);
    expect(state.status().leases.map(({ holder }) => holder)).toEqual(['d']);
  });
});

test('an entity that is started anew counts on from above its predecessor', () => {
  const before = fresh();
  for (let n = 0; n < 3; n++) before.request(request(`r${n}`), 2_000);
  const after = new HostState({ hostId: 'a' }, 5_000);
  expect(after.status().epoch).toBeGreaterThan(before.status().epoch);
});

/** Any history of messages, cut by continue-as-new anywhere. */
test('whatever comes, in whatever order: never above capacity, nobody twice, live set exact, epoch rising', () => {
  const holder = fc.integer({ min: 0, max: 12 }).map((n) => `h${n}`);
  const need = fc.record({
    slots: fc.integer({ min: 0, max: 4 }),
    domains: fc.integer({ min: 0, max: 3 }),
    scratchBytes: fc.integer({ min: 0, max: 120 }),
  });
  const step = fc.oneof(
    fc.record({ kind: fc.constant('request' as const), holder, need }),
    fc.record({ kind: fc.constant('release' as const), holder }),
    fc.record({ kind: fc.constant('answer' as const) }),
    fc.record({ kind: fc.constant('continue-as-new' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let state = fresh();
      for (const next of steps) {
        const before = state.liveSet;
        if (next.kind === 'request') state.request(request(next.holder, next.need), 0);
        else if (next.kind === 'release') state.release(next.holder, 0);
        else if (next.kind === 'answer') state.takeAnswer();
        else {
          const snapshot = JSON.parse(JSON.stringify(state.snapshot()));
          state = new HostState({ hostId: 'a', state: snapshot }, 9_999_999);
          assert.deepEqual(state.snapshot(), snapshot);
        }
        const { used, leases, waiting, epoch } = state.status();
        assert.ok(used.slots <= 3 && used.domains <= 2 && used.scratchBytes <= 100, 'above capacity');
        assert.equal(new Set(state.holders).size, state.holders.length);
        assert.deepEqual(
          state.liveSet.liveOps,
          leases.map((lease) => `op-${lease.holder}`),
        );
        assert.ok(epoch >= before.epoch);
        if (JSON.stringify(before.liveOps) !== JSON.stringify(state.liveSet.liveOps)) {
          assert.ok(epoch > before.epoch);
        }
        for (const lease of leases) assert.ok(lease.epoch <= epoch);
        // Nobody waits without a reason: the first in line does not fit.
        const first = waiting[0]?.need;
        if (first) {
          const fits =
            used.slots + first.slots <= 3 &&
            used.domains + first.domains <= 2 &&
            used.scratchBytes + first.scratchBytes <= 100;
          assert.ok(!fits, 'waits though there is room');
        }
      }
    }),
  );
});
