import { describe, expect, it } from 'vitest';
import { Stages } from '../progress/stages.ts';
import { TestClock } from '../progress/test-clock.ts';
import { nextSteps } from './next-steps.ts';
import { StepRecorder } from './step-recorder.ts';

function recorder(): { clock: TestClock; stages: Stages; recorder: StepRecorder } {
  const clock = new TestClock();
  const stages = new Stages(clock);
  const made = new StepRecorder(clock, stages);
  made.plan('a', 'First');
  made.plan('b', 'Second');
  return { clock, stages, recorder: made };
}

describe('steps of a run', () => {
  it('keep what they found, also when they then fail', async () => {
    const { clock, stages, recorder: steps } = recorder();
    const work = steps.run('a', 'It was tried.', async (draft) => {
      draft.fact('Disk', 'vda');
      draft.check('It holds.', true, '1 = 1');
      clock.advance(500);
      throw new Error('broken');
    });
    await expect(work).rejects.toThrow('broken');
    expect(steps.steps()).toMatchObject([
      { id: 'a', state: 'failed', durationMs: 500, facts: [['Disk', 'vda']], checks: [{ good: true }] },
      { id: 'b', state: 'skipped', summary: 'Not reached.' },
    ]);
    expect(stages.view().map(({ state }) => state)).toEqual(['failed', 'waiting']);
  });

  it('show a claim that did not hold as failed, and go on', async () => {
    const { stages, recorder: steps } = recorder();
    const value = await steps.run('a', '', async (draft) => draft.check('It starts.', false, 'grub-rescue'));
    expect(value).toBe(false);
    expect(steps.steps()[0]).toMatchObject({ state: 'done', checks: [{ claim: 'It starts.', good: false }] });
    expect(stages.view()[0]).toMatchObject({ state: 'failed', note: 'did not hold: It starts. grub-rescue' });
  });
});

describe('how to go on', () => {
  const run = {
    stateRoot: '/var/lib/life boat/demo/x',
    guest: 'lb-demo-x',
    newMachine: 'lb-demo-x-new',
    target: 'nvme',
  };

  it('is a command that can be pasted', () => {
    const kept = nextSteps({ ...run, kept: true }).map(({ command }) => command);
    expect(kept[0]).toBe("LIFEBOAT_STATE='/var/lib/life boat/demo/x' npm run lifeboat -- points");
    expect(kept).toContain('virsh console lb-demo-x-new');
    expect(kept.at(-1)).toBe('npm run lifeboat -- demo --clean');
  });

  it('names other hardware than this time', () => {
    expect(nextSteps({ ...run, kept: false })[0]?.command).toContain('--target virtio-blk');
  });
});
