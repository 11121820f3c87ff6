import { describe, expect, it } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { progressText } from './stage-line.ts';
import { Stages } from './stages.ts';
import { TestClock } from './test-clock.ts';

function running(): { clock: TestClock; stages: Stages; text: () => string } {
  const clock = new TestClock();
  const stages = new Stages(clock);
  stages.begin('a', 'Capture');
  return { clock, stages, text: () => progressText(stages.view()[0]!) };
}

describe('stages', () => {
  it('has no rate before there is ground for one, and a calm one after', () => {
    const { clock, stages, text } = running();
    stages.update('a', { phase: 'read', doneBytes: 0, totalBytes: 1000 * MiB });
    clock.advance(500);
    stages.update('a', { phase: 'read', doneBytes: 50 * MiB, totalBytes: 1000 * MiB });
    expect(text()).toBe('read: 50.0 MiB of 1000 MiB');
    clock.advance(500);
    stages.update('a', { phase: 'read', doneBytes: 100 * MiB, totalBytes: 1000 * MiB });
    expect(text()).toBe('read: 100 MiB of 1000 MiB, 100 MiB/s');
  });

  it('tells a remaining time only after ten seconds and a twentieth of the bytes', () => {
    const { clock, stages, text } = running();
    const early: string[] = [];
    for (let done = 0; done <= 110; done += 10) {
      stages.update('a', { phase: 'read', doneBytes: done * MiB, totalBytes: 1000 * MiB });
      if (done < 100) early.push(text());
      clock.advance(1000);
    }
    expect(early.join('')).not.toContain('left');
    expect(text()).toMatch(/about \d\d?\d?\.?\d? ?\w* ?\d* s left$/);
    const little = running();
    for (let done = 0; done <= 20; done++) {
      little.stages.update('a', { phase: 'read', doneBytes: done * MiB, totalBytes: 1000 * MiB });
      little.clock.advance(1000);
    }
    expect(little.text()).not.toContain('left');
  });

  it('shows a stall instead of the last good rate', () => {
    const { clock, stages } = running();
    stages.update('a', { phase: 'read', doneBytes: 0 });
    clock.advance(2000);
    stages.update('a', { phase: 'read', doneBytes: 200 * MiB });
    const before = stages.view()[0]?.rateBytesPerSecond ?? 0;
    clock.advance(20_000);
    expect(stages.view()[0]?.rateBytesPerSecond ?? 0).toBeLessThan(before / 5);
    stages.update('a', { phase: 'read', doneBytes: 200 * MiB });
    clock.advance(20_000);
    stages.update('a', { phase: 'read', doneBytes: 200 * MiB });
    expect(progressText(stages.view()[0]!)).toContain('no bytes just now');
  });

  it('forgets the rate when bytes go back or the phase changes', () => {
    const { clock, stages } = running();
    stages.update('a', { phase: 'read', doneBytes: 0 });
    clock.advance(2000);
    stages.update('a', { phase: 'read', doneBytes: 500 });
    expect(stages.view()[0]?.rateBytesPerSecond).toBe(250);
    stages.update('a', { phase: 'read', doneBytes: 10 });
    expect(stages.view()[0]?.rateBytesPerSecond).toBeUndefined();
  });

  it('does not begin again what has ended, and freezes its time', () => {
    const { clock, stages } = running();
    clock.advance(1500);
    stages.end('a', 'done', { note: 'good' });
    clock.advance(9000);
    stages.begin('a', 'Capture');
    expect(stages.view()).toEqual([{ id: 'a', title: 'Capture', state: 'done', elapsedMs: 1500, note: 'good' }]);
  });

  it('ends everything when it is broken off', () => {
    const { stages } = running();
    stages.plan('b', 'Verify');
    stages.breakOff('operation.cancelled');
    expect(stages.view().map(({ state, note }) => [state, note])).toEqual([
      ['failed', 'operation.cancelled'],
      ['skipped', 'not reached'],
    ]);
  });
});
