/** A process that freezes its guest and then hangs, for a test that kills it. */
import { silentLog } from '@lifeboat/foundation/log';
import { whileFrozen } from '../freeze.ts';
import { scriptedAgent } from './scripted-agent.ts';

const [uuid = ''] = process.argv.slice(2);
const { connection } = scriptedAgent({ domainFsfreeze: 1 });
await whileFrozen(
  { connection, log: silentLog, virshUri: 'qemu:///system' },
  { name: 'web', uuid, id: 1 },
  async () => {
    process.stdout.write('frozen\n');
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  },
);
