import { describe, expect, test } from 'vitest';
import { describeEpoch, epochDifference } from './tracking-epoch.ts';

const image = { fileId: '42@1000', snapshots: ['1 before 17.5'] };
const epoch = describeEpoch('m1', '/d/a.qcow2', image);

describe('the tracking epoch', () => {
  test('is the same while nothing changed', () => {
    expect(epochDifference(epoch, describeEpoch('m1', '/d/a.qcow2', { ...image }))).toBeUndefined();
  });

  test.each([
    ['the machine', describeEpoch('m2', '/d/a.qcow2', image), 'of machine m1'],
    ['the path', describeEpoch('m1', '/d/b.qcow2', image), 'moved from /d/a.qcow2 to /d/b.qcow2'],
    ['the file', describeEpoch('m1', '/d/a.qcow2', { ...image, fileId: '42@2000' }), 'replaced'],
    ['a new snapshot', describeEpoch('m1', '/d/a.qcow2', { ...image, snapshots: [] }), 'internal snapshots'],
  ])('%s: said in words', (_what, now, reason) => {
    expect(epochDifference(epoch, now)).toContain(reason);
  });

  test.each(['', '{}', 'null', '[1]', '{"machine"'])('an epoch of %j is no reason to trust', (then) => {
    expect(epochDifference(then, epoch)).toContain('does not say');
  });
});
