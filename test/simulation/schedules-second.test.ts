import { test } from 'vitest';

import { expectNothingLost } from './batch.ts';
import { SCHEDULES_PER_FILE } from './counts.ts';

test('nothing that is needed is lost, and nothing that is not needed stays: second half of the schedules', () =>
  expectNothingLost(1 + SCHEDULES_PER_FILE, SCHEDULES_PER_FILE));
