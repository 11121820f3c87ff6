import { describe, expect, it } from 'vitest';
import { StatusRuns, toExtents } from './status-runs.ts';

describe('status runs', () => {
  it('joins neighbours of equal flags and cuts at the end of the range', () => {
    const runs = new StatusRuns({ offsetBytes: 10, lengthBytes: 20 });
    runs.add(4, 1);
    runs.add(6, 1);
    runs.add(5, 0);
    runs.add(100, 3);
    runs.add(7, 1);
    expect(runs.runs).toEqual([
      { offsetBytes: 10, lengthBytes: 10, flags: 1 },
      { offsetBytes: 20, lengthBytes: 5, flags: 0 },
      { offsetBytes: 25, lengthBytes: 5, flags: 3 },
    ]);
  });

  it('takes a hole for a hole only when it promises zeros', () => {
    const flags = [0, 1, 2, 3, 3 | 8];
    const runs = flags.map((value, index) => ({ offsetBytes: index, lengthBytes: 1, flags: value }));
    expect(toExtents(runs)).toEqual([
      { offsetBytes: 0, lengthBytes: 2, kind: 'data' },
      { offsetBytes: 2, lengthBytes: 1, kind: 'zero' },
      { offsetBytes: 3, lengthBytes: 2, kind: 'hole' },
    ]);
  });
});
