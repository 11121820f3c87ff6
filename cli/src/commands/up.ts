import { formatDuration } from '@lifeboat/foundation/units';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import { startOwnStack } from '../operations/stack-session.ts';
import { fields } from '../text/table.ts';

/** Runs until it is told to stop, which is its good end. A second Ctrl-C does not wait for those who use the stack. */
export async function upCommand(context: CommandContext): Promise<ExitCode> {
  const { output, display, stages, clock, signal, configuration } = context;
  const hostId = await withHostRuntime(context, async (host) => host.hostId, { makeRepository: true });
  const beganMs = clock.monotonicMs();
  stages.begin('up', 'Start Temporal, worker and agent');
  const stack = await startOwnStack({ ...context, hostId });
  stages.end('up', 'done', { note: `ready after ${formatDuration(clock.monotonicMs() - beganMs)}` });
  display.close();
  output.result(
    { temporal: stack.temporal, hostId, stateRoot: configuration.stateRoot, processes: stack.processes() },
    [
      ...fields([
        ['Temporal', `${stack.temporal.address}, namespace ${stack.temporal.namespace}`],
        ['Host', hostId],
        ['State', configuration.stateRoot],
        ...stack.processes().map(({ name, pid, logPath }) => [name, `pid ${pid}, log ${logPath}`] as const),
      ]),
      'Other commands use this stack by themselves. Ctrl-C stops it.',
    ],
  );
  try {
    await untilAborted(AbortSignal.any([signal, stack.broken]));
  } finally {
    await stack.release();
  }
  stack.broken.throwIfAborted();
  return EXIT.done;
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
