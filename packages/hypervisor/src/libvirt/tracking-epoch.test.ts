import { describe, expect, test } from 'vitest';
import { describeEpoch, epochDoubt } from './tracking-epoch.ts';

const image = { fileId: '42@1000', snapshots: [] };
const snapshots = ['1 before 17.5'];
const epoch = describeEpoch('m1', '/d/a.qcow2', image);

describe('the tracking epoch', () => {
  test('is the same while nothing changed', () => {
    expect(epochDoubt(epoch, describeEpoch('m1', '/d/a.qcow2', { ...image }))).toBeUndefined();
  });

  test.each([
    ['the machine', describeEpoch('m2', '/d/a.qcow2', image), 'of machine m1'],
    ['the path', describeEpoch('m1', '/d/b.qcow2', image), 'moved from /d/a.qcow2 to /d/b.qcow2'],
    ['the file', describeEpoch('m1', '/d/a.qcow2', { ...image, fileId: '42@2000' }), 'replaced'],
    [
      'a new snapshot',
      describeEpoch('m1', '/d/a.qcow2', { ...image, snapshots }),
      'internal snapshots of /d/a.qcow2 changed',
    ],
  ])('%s: said in words', (_what, now, reason) => {
    expect(epochDoubt(epoch, now)).toContain(reason);
  });

  test('is no reason to trust an image that holds snapshots, for a jump to one changes nothing of it', () => {
    const same = describeEpoch('m1', '/d/a.qcow2', { ...image, snapshots });
    expect(epochDoubt(same, same)).toContain('holds internal snapshots');
    expect(epochDoubt(same, epoch)).toContain('changed');
  });

  test.each(['', '{}', 'null', '[1]', '{"machine"'])('an epoch of %j is no reason to trust', (then) => {
    expect(epochDoubt(then, epoch)).toContain('does not say');
  });
});
