/**
 * From a command to the operation it stands for: the machine is looked up first, without Temporal, so that a wrong name, a
 * wrong passphrase or a libvirt that does not run is said within a second; only then is a stack found or started.
 */
import type { Client } from '@temporalio/client';
import type { OperationRequest, OperationTarget } from '@lifeboat/contracts/workflow/operations';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import type { CommandContext } from '../context.ts';
import { runOperation, type RequestOf, type Results, type Sighting } from './operation.ts';
import { newRequestId } from './request.ts';
import { withStack } from './stack-session.ts';
import { followStages } from './follow.ts';
import { withHostRuntime } from './host.ts';

type Input<K extends OperationRequest['kind']> = RequestOf<K>['input'];

/** How a machine is found: a backup needs the machine itself, everything else its recovery points. */
export type Lookup = 'hypervisor' | 'repository';

/** Finds the machine, then runs one operation on it through a stack that runs or is started for it. */
export async function runOnMachine<K extends OperationRequest['kind']>(
  context: CommandContext,
  operation: {
    readonly kind: K;
    readonly machine: string;
    readonly lookup: Lookup;
    readonly input: (target: OperationTarget) => Input<K>;
  },
): Promise<Results[K]> {
  const { kind, machine, lookup } = operation;
  const target = await withHostRuntime(context, (host) => findTarget(host, machine, lookup), {
    makeRepository: lookup === 'hypervisor',
  });
  const onSighting = followStages(context.stages);
  return await withStack({ ...context, hostId: target.hostId }, (client, signal) =>
    submitAndFollow({ ...context, signal }, client, { kind, input: operation.input(target), onSighting }),
  );
}

export async function submitAndFollow<K extends OperationRequest['kind']>(
  context: Pick<CommandContext, 'clock' | 'random' | 'signal'>,
  client: Client,
  operation: { readonly kind: K; readonly input: Input<K>; readonly onSighting: (sighting: Sighting) => void },
): Promise<Results[K]> {
  const { clock, random, signal } = context;
  const request = { kind: operation.kind, requestId: newRequestId(random), input: operation.input } as RequestOf<K>;
  return await runOperation<K>(client, request, { clock, signal, onSighting: operation.onSighting });
}

async function findTarget(host: HostRuntime, machine: string, lookup: Lookup): Promise<OperationTarget> {
  const { hostId } = host;
  if (lookup === 'hypervisor') {
    const found = await host.hypervisor.findMachine(machine);
    return { hostId, machineId: found.id, machine: found.id };
  }
  const points = await host.engine.listPoints(machine);
  const ids = [...new Set(points.map((point) => point.machineId))];
  const [machineId] = ids;
  if (machineId === undefined) {
    throw new LifeboatError('engine.no-such-point', `'${machine}' has no recovery point in this repository`, {
      context: { machine },
    });
  }
  if (ids.length > 1) {
    throw new LifeboatError(
      'engine.ambiguous-machine',
      `'${machine}' names ${ids.length} machines with recovery points: ${ids.join(', ')}`,
      { context: { machine } },
    );
  }
  return { hostId, machineId, machine: machineId };
}
