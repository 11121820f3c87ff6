import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MACHINE_POINT_LIMIT, MACHINE_QUEUE_LIMIT, MACHINE_RECENT_LIMIT } from '@lifeboat/contracts/workflow/machine';
import type { KnownPoint } from '@lifeboat/contracts/workflow/machine';
import type { OperationRequest } from '@lifeboat/contracts/workflow/operations';
import { MachineState } from '@lifeboat/workflows/machine-state';

const backup = (requestId: string, machineId = 'm'): OperationRequest => ({
  kind: 'backup',
  requestId,
  input: { hostId: 'h', machineId, machine: 'web-1' },
});
const point = (n: number, proof: KnownPoint['proof'] = ['stored']): KnownPoint => ({
  pointId: `p${n}`,
  instantMs: n,
  proof,
});

function idle(): MachineState {
  const state = new MachineState({ machineId: 'm' });
  state.refreshed([]);
  return state;
}

describe('requests', () => {
  test('are refused when they are no requests of this machine, or too many', () => {
    const state = idle();
    expect(state.refusal(backup('UP'))?.code).toBe('input.invalid');
    expect(state.refusal(backup('../etc'))?.code).toBe('input.invalid');
    expect(state.refusal(backup('a', 'other'))?.message).toContain('machine m was sent a request for machine other');
    for (let n = 0; n < MACHINE_QUEUE_LIMIT; n++) state.submit(backup(`r${n}`));
    expect(state.refusal(backup('more'))?.code).toBe('machine.queue-full');
    // One that is in already is no new one.
    expect(state.refusal(backup('r7'))).toBeUndefined();
  });

  test('say how many come before them', () => {
    const state = idle();
    expect(state.submit(backup('a'))).toEqual({ workflowId: 'backup/m/a', ahead: 0 });
    state.startNext(0);
    expect(state.submit(backup('b')).ahead).toBe(1);
    expect(state.submit(backup('c')).ahead).toBe(2);
    expect(state.submit(backup('a')).ahead).toBe(0);
  });
});

describe('the end of an operation', () => {
  test('said twice, or of another one, changes nothing but the evidence', () => {
    const state = idle();
    state.submit(backup('a'));
    state.submit(backup('b'));
    state.startNext(0);
    state.finished({ requestId: 'a', outcome: 'completed', point: point(1) }, 5);
    state.startNext(6);
    state.finished({ requestId: 'a', outcome: 'completed', point: point(1, ['booted']) }, 7);
    const { running, recent, points } = state.status();
    expect(running?.requestId).toBe('b');
    expect(recent).toHaveLength(1);
    expect(points).toEqual([point(1, ['stored', 'booted'])]);
  });

  test('without a word puts the points in doubt until the repository was read', () => {
    const state = idle();
    state.submit(backup('a'));
    state.startNext(0);
    state.lost('a', 'lost', 1);
    expect(state.refreshThrough).toEqual({ hostId: 'h', machineId: 'm', machine: 'web-1' });
    state.refreshed(undefined);
    expect(state.refreshThrough).toBeUndefined();
    state.submit(backup('b'));
    state.startNext(2);
    state.finished({ requestId: 'b', outcome: 'failed' }, 3);
    expect(state.refreshThrough).toBeDefined();
    state.refreshed([point(2), point(1)]);
    expect(state.refreshThrough).toBeUndefined();
    expect(state.status().newestInstantMs).toBe(2);
  });
});

describe('recovery numbers', () => {
  test('count what is proven, and no damaged point', () => {
    const state = idle();
    state.refreshed([point(1), point(2), point(3)]);
    state.finished({ requestId: 'x', outcome: 'completed', point: point(2, ['booted']), provenRtoMs: 42 }, 0);
    expect(state.status()).toMatchObject({ newestInstantMs: 3, newestProvenInstantMs: 2, provenRtoMs: 42 });
    state.finished({ requestId: 'x', outcome: 'completed', point: { ...point(3, []), damaged: true } }, 0);
    state.finished({ requestId: 'x', outcome: 'completed', point: { ...point(2, []), damaged: true } }, 0);
    const status = state.status();
    expect(status.newestInstantMs).toBe(1);
    expect(status.newestProvenInstantMs).toBeUndefined();
    expect(status.points.map(({ proof }) => proof)).toEqual([[], [], ['stored']]);
  });

  test('damage stays until a check at least as deep finds none', () => {
    const state = idle();
    const found = (proof: Parameters<typeof point>[1], damagedAt?: Parameters<typeof point>[1]) =>
      state.finished(
        {
          requestId: 'x',
          outcome: 'completed',
          point: { ...point(1, proof), ...(damagedAt && { damaged: true, damagedAt }) },
        },
        0,
      );
    const damagedAt = () => state.status().points[0]?.damagedAt;
    found([], ['content']);
    found(['stored']);
    expect(state.status()).toMatchObject({ points: [{ pointId: 'p1', proof: ['stored'], damaged: true }] });
    expect(state.status().newestInstantMs).toBeUndefined();
    // Of packs the repository's list knows nothing.
    state.refreshed([{ pointId: 'p1', instantMs: 1 }]);
    found(['stored', 'ciphertext']);
    expect(damagedAt()).toEqual(['content']);
    // Found again by a shallower check, it must be proven gone at both.
    found([], ['stored']);
    found(['stored']);
    expect(damagedAt()).toEqual(['content']);
    const continued = new MachineState({ machineId: 'm', state: state.snapshot() });
    expect(continued.status().points[0]?.damagedAt).toEqual(['content']);
    found(['stored', 'content', 'booted']);
    expect(state.status().points).toEqual([point(1, ['stored', 'content', 'booted'])]);
    expect(state.status().newestProvenInstantMs).toBe(1);
  });

  test('evidence stays with a point when the repository is read again; what is gone there is gone', () => {
    const state = idle();
    state.finished({ requestId: 'x', outcome: 'completed', point: point(1, ['content']) }, 0);
    state.finished({ requestId: 'x', outcome: 'completed', point: point(2, ['content']) }, 0);
    state.refreshed([{ pointId: 'p2', instantMs: 2 }]);
    expect(state.status().points).toEqual([point(2, ['content'])]);
  });
});

test('whatever comes: one at a time, nothing lost, nothing twice, lists bounded, any cut by continue-as-new', () => {
  const id = fc.integer({ min: 0, max: 150 }).map((n) => `r${n}`);
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('submit' as const), id }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('start' as const), id }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('finish' as const), id }) },
    fc.record({ kind: fc.constant('withdraw' as const), id }),
    fc.record({ kind: fc.constant('lost' as const), id }),
    fc.record({ kind: fc.constant('continue-as-new' as const), id }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      let state = idle();
      const accepted: string[] = [];
      const started: string[] = [];
      const withdrawn: string[] = [];
      for (const [at, next] of steps.entries()) {
        const { running, queue } = state.status();
        if (next.kind === 'submit') {
          if (!state.refusal(backup(next.id))) state.submit(backup(next.id));
          if (state.status().queue.length > queue.length) accepted.push(next.id);
        } else if (next.kind === 'start') {
          const request = state.startNext(at);
          if (request) started.push(request.requestId);
          assert.ok(request === undefined || running === undefined, 'two run at once');
        } else if (next.kind === 'finish' && running) {
          state.finished({ requestId: running.requestId, outcome: 'completed', point: point(at) }, at);
        } else if (next.kind === 'lost' && running) state.lost(running.requestId, 'lost', at);
        else if (next.kind === 'withdraw') {
          state.withdraw(next.id, at);
          if (state.status().queue.length < queue.length) withdrawn.push(next.id);
        } else if (next.kind === 'continue-as-new') {
          const snapshot = JSON.parse(JSON.stringify(state.snapshot()));
          state = new MachineState({ machineId: 'm', state: snapshot });
          assert.deepEqual(JSON.parse(JSON.stringify(state.snapshot())), snapshot);
        }
        const now = state.status();
        assert.ok(now.queue.length <= MACHINE_QUEUE_LIMIT);
        assert.ok(now.recent.length <= MACHINE_RECENT_LIMIT);
        assert.ok(now.points.length <= MACHINE_POINT_LIMIT);
      }
      // What was accepted was started or withdrawn, in order, or still waits.
      const waiting = state.status().queue.map(({ requestId }) => requestId);
      if (withdrawn.length === 0) assert.deepEqual([...started, ...waiting], accepted);
      assert.equal(started.length + waiting.length + withdrawn.length, accepted.length);
    }),
  );
});
