import { runSchedule } from './schedule.ts';

/** Runs schedules from a seed on and prints which. Says of the first that goes wrong which seed shows it again. */
export async function firstFault(firstSeed: number, count: number): Promise<string | undefined> {
  console.log(`seeds ${firstSeed} to ${firstSeed + count - 1}`);
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    const fault = await runSchedule(seed);
    if (fault) return `seed ${seed}: ${fault.kind}: ${fault.what}`;
  }
  return undefined;
}
