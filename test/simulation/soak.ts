/**
 * `node test/simulation/soak.ts [COUNT] [FIRST SEED]`: schedules for as long as wanted. Prints the seed of each that goes wrong.
 * `WITHOUT=markAgain,…` takes rules away.
 */
import process from 'node:process';

import { runSchedule, type Rule } from './schedule.ts';

const [count = '20000', first = String(Date.now() % 1_000_000_000)] = process.argv.slice(2);
const without = (process.env['WITHOUT'] ?? '').split(',').filter(Boolean) as Rule[];
const startedMs = performance.now();
let wrong = 0;
for (let i = 0; i < Number(count); i++) {
  const seed = Number(first) + i;
  const found = await runSchedule(seed, without);
  if (found === undefined) continue;
  wrong++;
  console.log(`seed ${seed}: ${found.kind}: ${found.what}`);
}
const seconds = (performance.now() - startedMs) / 1000;
console.log(`${count} schedules from seed ${first} in ${seconds.toFixed(1)} s, ${wrong} went wrong`);
process.exitCode = wrong > 0 ? 1 : 0;
