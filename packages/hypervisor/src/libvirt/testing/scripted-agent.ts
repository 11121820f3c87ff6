/** libvirt as far as freezing goes: a guest agent that answers as the test says. */
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';

type Procedure = 'domainAgentCommand' | 'domainFsfreeze' | 'domainFsthaw';

export interface ScriptedAgent {
  readonly connection: LibvirtConnection;
  /** The calls, in their order. */
  readonly asked: Procedure[];
}

/** An error is thrown, anything else is the answer. Thaws after the freeze count what it froze, unless the script says else. */
export function scriptedAgent(script: { [P in Procedure]?: number | string | Error }): ScriptedAgent {
  const asked: Procedure[] = [];
  const call = ({ procedure }: { procedure: Procedure }): Promise<unknown> => {
    asked.push(procedure);
    const answer = script[procedure] ?? (procedure === 'domainFsthaw' ? script.domainFsfreeze : '{"return":{}}');
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  };
  return { connection: { call } as unknown as LibvirtConnection, asked };
}
