/** Without any one of the rules the same schedules lose data: so each rule is needed, and the simulation would notice. */
import { expect, test } from 'vitest';

import { SAFETY_RULES, type SafetyRules } from '@lifeboat/repository/collect/rules';

import { runSchedule } from './schedule.ts';

const MAX_SCHEDULES = 5000;

/** Needs two requests that are late by a collection, in one order: `collect.test.ts` tells its story, with the rule and without. */
const TOLD_ELSEWHERE: readonly string[] = ['avoidSwept'] satisfies (keyof SafetyRules)[];
const RULES = Object.keys(SAFETY_RULES).filter((rule) => !TOLD_ELSEWHERE.includes(rule)) as (keyof SafetyRules)[];

test.each(RULES)('without %s a point is lost', async (rule) => {
  for (let seed = 1; seed <= MAX_SCHEDULES; seed++) {
    const fault = await runSchedule(seed, [rule]);
    if (fault?.kind !== 'lost') continue;
    console.log(`${rule}: seed ${seed}: ${fault.what}`);
    return;
  }
  expect.fail(`none of ${MAX_SCHEDULES} schedules noticed that ${rule} was missing`);
});
