/**
 * One verb of the engine in a process of its own, to be killed in the middle of it: `node verb-child.ts VERB INPUT`, the
 * configuration in the environment. Prints `begun`, `phase NAME` whenever that changes, and `done` at its end.
 */
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { openHostRuntime } from '@lifeboat/runtime/host-runtime';
import type { Engine } from '@lifeboat/engine/verbs';
import { verbContext } from './test-host.ts';

const [verb = '', input = ''] = process.argv.slice(2);
const host = await openHostRuntime(loadConfiguration());
await host.hypervisor.describeHost();
const run = host.engine[verb as Exclude<keyof Engine, 'listPoints'>] as (
  input: unknown,
  context: ReturnType<typeof verbContext>,
) => Promise<unknown>;
process.stdout.write('begun\n');
let last = '';
const progress = ({ phase }: { phase: string }): void => {
  if (phase !== last) process.stdout.write(`phase ${phase}\n`);
  last = phase;
};
await run(JSON.parse(input), verbContext({ progress }));
process.stdout.write('done\n');
await host.close();
