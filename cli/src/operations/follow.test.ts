import { describe, expect, it } from 'vitest';
import type { Stage } from '@lifeboat/contracts/workflow/progress';
import { progressText } from '../progress/stage-line.ts';
import { Stages } from '../progress/stages.ts';
import { TestClock } from '../progress/test-clock.ts';
import { followInside, followStages } from './follow.ts';
import type { ActivitySighting, Sighting } from './operation.ts';

const stage = (name: string, change: Partial<Stage> = {}): Stage => ({ name, state: 'pending', notes: [], ...change });

function running(stages: readonly Stage[], activity?: ActivitySighting): Sighting {
  const status = { kind: 'verify', machineId: 'm', hostId: 'h', stages };
  return { kind: 'running', status, ...(activity ? { activity } : {}) };
}

const heartbeat = { verb: 'checkPoint', phase: 'check', doneBytes: 1024, totalBytes: 2048, detail: 'vda' };

describe('an operation as stages', () => {
  it('shows what was done, what runs and what comes, with the times of the workflow', () => {
    const stages = new Stages(new TestClock());
    const follow = followStages(stages);
    follow({ kind: 'queued', ahead: 2 });
    expect(progressText(stages.view()[0]!)).toBe('after 2 other operations');
    const sighting = running(
      [
        stage('wait for the host', { state: 'done', startedMs: 1000, endedMs: 3500 }),
        stage('check', { state: 'running', startedMs: 3500 }),
        stage('boot test'),
      ],
      { attempt: 1, heartbeat },
    );
    follow(sighting);
    follow(sighting);
    expect(stages.view().map(({ title, state, elapsedMs }) => [title, state, elapsedMs])).toEqual([
      ['Wait for the machine', 'done', 0],
      ['Wait for the host', 'done', 2500],
      ['Check', 'running', 0],
      ['Boot test', 'waiting', undefined],
    ]);
    expect(progressText(stages.view()[2]!)).toBe('check: 1.00 KiB of 2.00 KiB (vda)');
  });

  it('says that it is tried again, and why', () => {
    const stages = new Stages(new TestClock());
    followStages(stages)(
      running([stage('check', { state: 'running' })], { attempt: 3, lastFailure: 'connection lost' }),
    );
    expect(progressText(stages.view()[0]!)).toBe('attempt 3, after: connection lost');
  });

  it('tells failed, skipped and undone stages apart', () => {
    const stages = new Stages(new TestClock());
    followStages(stages)(
      running([
        stage('check', { state: 'failed', notes: ['2 damaged places'] }),
        stage('boot test', { state: 'skipped' }),
        stage('restore disks', { state: 'undone' }),
      ]),
    );
    expect(stages.view().map(({ state, note }) => [state, note])).toEqual([
      ['failed', '2 damaged places'],
      ['skipped', undefined],
      ['failed', 'undone'],
    ]);
  });

  it('is one line inside a larger run, and does not say a word twice', () => {
    const stages = new Stages(new TestClock());
    stages.begin('verify', 'Verify');
    const follow = followInside(stages, 'verify');
    follow(running([stage('check', { state: 'running' })], { attempt: 1, heartbeat }));
    expect(progressText(stages.view()[0]!)).toBe('check: 1.00 KiB of 2.00 KiB (vda)');
    follow(running([stage('capture', { state: 'running' })], { attempt: 1, heartbeat }));
    expect(progressText(stages.view()[0]!)).toMatch(/^capture, check: /);
  });
});
