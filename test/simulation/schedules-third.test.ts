import { expect, test } from 'vitest';

import { firstFault } from './batch.ts';
import { SCHEDULES_PER_FILE } from './counts.ts';

test('nothing that is needed is lost, and nothing that is not needed stays: third quarter of the schedules', async () => {
  expect(await firstFault(1 + 2 * SCHEDULES_PER_FILE, SCHEDULES_PER_FILE)).toBeUndefined();
});
