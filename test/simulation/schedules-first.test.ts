import { expect, test } from 'vitest';

import { firstFault } from './batch.ts';
import { SCHEDULES_PER_FILE } from './counts.ts';

test('nothing that is needed is lost, and nothing that is not needed stays: first quarter of the schedules', async () => {
  expect(await firstFault(1, SCHEDULES_PER_FILE)).toBeUndefined();
});
