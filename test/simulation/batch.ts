import { expect } from 'vitest';

import { runSchedule } from './schedule.ts';

/** Runs schedules from a seed on and prints which. The first that goes wrong fails the test, with the seed that shows it again. */
export async function expectNothingLost(firstSeed: number, count: number): Promise<void> {
  console.log(`seeds ${firstSeed} to ${firstSeed + count - 1}`);
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    const fault = await runSchedule(seed);
    if (fault) expect.fail(`seed ${seed}: ${fault.kind}: ${fault.what}`);
  }
}
