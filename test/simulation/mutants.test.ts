/** Without any one of the rules the same schedules lose data: so each rule is needed, and the simulation would notice. */
import { expect, test } from 'vitest';

import { SAFETY_RULES, type SafetyRules } from '@lifeboat/repository/collect/rules';

import { runSchedule, type WorldName } from './schedule.ts';

const MAX_SCHEDULES = 5000;

/** What is too rare in any world is looked for in the kind that was made for it. */
const WHERE: Partial<Record<keyof SafetyRules, WorldName>> = {
  checkParent: 'hasty',
  prunedInBothMarks: 'leisurely',
  avoidSwept: 'ghostly',
  readListsAfterOpen: 'sleepy',
  moveEveryBlob: 'crumbling',
  lookAgain: 'crumbling',
  keepRelocations: 'crumbling',
};
/** Too rare for any world; `compact.test.ts` tells their stories, with the rule and without. */
const TOLD: readonly (keyof SafetyRules)[] = ['avoidCondemnedTargets', 'leadSourcesOn'];
const RULES = (Object.keys(SAFETY_RULES) as (keyof SafetyRules)[]).filter((rule) => !TOLD.includes(rule));

test.each(RULES)('without %s a point is lost', async (rule) => {
  for (let seed = 1; seed <= MAX_SCHEDULES; seed++) {
    const fault = await runSchedule(seed, [rule], WHERE[rule]);
    if (fault?.kind !== 'lost') continue;
    console.log(`${rule}: seed ${seed}: ${fault.what}`);
    return;
  }
  expect.fail(`none of ${MAX_SCHEDULES} schedules noticed that ${rule} was missing`);
});
