import { expect, test } from 'vitest';
import { pairMounts } from './pair-mounts.ts';

const at = (side: string) => (mountPoint: string) => ({ mountPoint, hostPath: `/${side}${mountPoint}` });
const not = (mountPoint: string, reason: string) => ({ mountPoint, reason });

test('what is on one side only differs, unless this host could not open it', () => {
  const point = { mounts: ['/', '/home', '/srv'].map(at('a')), notMounted: [not('/data', 'it is zfs')] };
  const restored = {
    mounts: [at('b')('/')],
    notMounted: [not('/home', 'beside its copy'), not('/data', 'it is zfs')],
  };
  expect(pairMounts(point, restored)).toEqual({
    pairs: [{ mountPoint: '/', point: '/a/', restored: '/b/' }],
    missing: ['/srv'],
    notCompared: ['/home: beside its copy', '/data: it is zfs'],
  });
});
