/** `lifeboat repo agents` and `repo keys grant`: who gets a part of what a tenant's keys open. */
import { agentPoliciesOf, enrolAgent, grantPoint, listAgents, revokeAgent } from '@lifeboat/runtime/agents-admin';
import type { AgentsAction } from '../agents-program.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { formatInstant } from '../text/instant.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';
import { goodLine } from './findings.ts';

type Agent = Awaited<ReturnType<typeof revokeAgent>>;

export async function agentsCommand(
  { configuration, output, signal }: CommandContext,
  action: AgentsAction,
): Promise<ExitCode> {
  switch (action.kind) {
    case 'agents-enrol': {
      const agent = await enrolAgent(configuration, action, { signal });
      output.result({ ...agent, file: action.output }, [
        goodLine(output.style, `agent ${agent.name} (${agent.agentId}) backs up ${agent.machines.join(', ')}`),
        printable(
          `its file is ${action.output}: move it to its host, mode 0600, and set LIFEBOAT_AGENT_FILE there; it is the only copy`,
        ),
      ]);
      return EXIT.done;
    }
    case 'keys-grant': {
      const granted = await grantPoint(configuration, action, { signal });
      output.result(granted, [
        goodLine(output.style, `the keys of point ${granted.pointId} of machine ${granted.machineId} are in a file`),
        printable(
          `${granted.file}: give it to the host that reads the point (LIFEBOAT_POINT_KEYS_FILE), and delete it afterwards`,
        ),
      ]);
      return EXIT.done;
    }
    case 'agents-list': {
      const agents = await listAgents(configuration, { signal });
      output.result({ agents }, agents.length === 0 ? ['no agent was ever enrolled'] : lines(agents));
      return EXIT.done;
    }
    case 'agents-policy': {
      const policies = await agentPoliciesOf(configuration, action);
      output.result({ policies }, [
        ...policies.flatMap(({ bucket, policy }) => [`bucket ${bucket}:`, JSON.stringify(policy, null, 2)]),
        'A bucket has one policy: add these statements to those it has.',
        ...(configuration.repository.place.kind === 's3' && configuration.repository.place.lockDays !== undefined
          ? [
              'These credentials can make locks longer, never shorter; a default retention of the bucket does without that right.',
            ]
          : []),
      ]);
      return EXIT.done;
    }
    default: {
      const agent = await revokeAgent(configuration, action, { signal });
      output.result(agent, [
        goodLine(
          output.style,
          `agent ${agent.name} (${agent.agentId}) is revoked; ${agent.acceptedPoints ?? 0} of its recovery points go on counting`,
        ),
        'after a theft: look at its newest points ("lifeboat points"), and prune those you do not trust',
      ]);
      return EXIT.done;
    }
  }
}

function lines(agents: readonly Agent[]): string[] {
  return table(
    [{ title: 'Agent' }, { title: 'Id' }, { title: 'State' }, { title: 'Until' }, { title: 'Machines' }],
    agents.map(({ name, agentId, state, notAfterMs, machines, revocation }) => [
      printable(name),
      agentId,
      revocation ? `revoked ${formatInstant(revocation.revokedMs)}` : state,
      formatInstant(notAfterMs),
      machines.join(', '),
    ]),
  );
}
