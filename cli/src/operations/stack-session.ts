/** A stack for the duration of a command: one that runs, or one that is started and stopped again. */
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { silentLog } from '@lifeboat/foundation/log';
import { connectStack, startStack, type Stack, type StackOptions } from '@lifeboat/runtime/stack';
import type { CommandContext } from '../context.ts';
import { printable } from '../text/width.ts';
import { connectTemporal, isPolled } from './temporal-connection.ts';

const WORKER = fileURLToPath(new URL('../../../worker/src/main.ts', import.meta.url));
const AGENT = fileURLToPath(new URL('../../../agent/src/main.ts', import.meta.url));

const STACK_STAGE = 'stack';
const STACK_TITLE = 'Find or start Temporal, worker and agent';

/** Announces the stage, for whoever shows what comes. */
export function planStackStage(stages: CommandContext['stages']): void {
  stages.plan(STACK_STAGE, STACK_TITLE);
}

type StackContext = Pick<CommandContext, 'configuration' | 'environment' | 'stages' | 'display' | 'signal'>;

/**
 * Runs `body` with a client of a stack that is ready for work on this host. When a process of a stack of ours cannot be
 * kept running, `body` is told through its signal, and that is what this fails with.
 */
export async function withStack<T>(
  context: StackContext & { readonly hostId: string },
  body: (client: Client, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { stages, signal } = context;
  stages.begin(STACK_STAGE, STACK_TITLE);
  const stack = await connectStack(context.configuration, stackOptions(context));
  stages.end(STACK_STAGE, 'done', {
    note: stack.owned ? `started at ${stack.temporal.address}` : `${stack.temporal.address} runs`,
  });
  try {
    const client = await connectTemporal(stack.temporal);
    try {
      return await body(client, AbortSignal.any([signal, stack.broken]));
    } catch (error) {
      stack.broken.throwIfAborted();
      throw error;
    } finally {
      await client.connection.close();
    }
  } finally {
    await stack.release();
  }
}

export async function startOwnStack(context: StackContext & { readonly hostId: string }): Promise<Stack> {
  return await startStack(context.configuration, stackOptions(context));
}

function stackOptions(context: StackContext & { readonly hostId: string }): StackOptions {
  const { environment, display, hostId, signal } = context;
  const say = (text: string): void => display.note(printable(text));
  return {
    temporalExecutable: environment['LIFEBOAT_TEMPORAL'] || 'temporal',
    entries: { worker: WORKER, agent: AGENT },
    isReady: (temporal) => isReady(temporal, hostId),
    signal,
    // What matters to a person comes through `say`; the processes keep logs of their own.
    log: silentLog,
    say,
  };
}

async function isReady(temporal: { address: string; namespace: string }, hostId: string): Promise<boolean> {
  const client = await connectTemporal(temporal);
  try {
    return await isPolled(client, hostId);
  } finally {
    await client.connection.close();
  }
}
