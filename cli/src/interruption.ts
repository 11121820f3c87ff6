/**
 * Ctrl-C, SIGTERM and a closed terminal: the first asks the command to stop and undo what it began, a second one ends the
 * process at once. Child processes die with it either way, and guests of boot tests with their connection.
 *
 * One press may arrive twice: a terminal signals the whole process group, and npm and timeout(1) pass on what they got
 * themselves. So a second one counts only after a moment.
 */
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { EXIT, type ExitCode } from './exit-codes.ts';

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated, SIGHUP: EXIT.terminated } as const;

const SAME_PRESS_MS = 1_000;

export interface Interruption {
  readonly signal: AbortSignal;
  /** The exit code of the signal that came; undefined while none has. */
  exitCode(): ExitCode | undefined;
  /** Stops listening. */
  close(): void;
}

export function listenForInterruption(options: {
  readonly clock: Clock;
  readonly say: (line: string) => void;
  /** Ends the process; for the second press. */
  readonly exit: (code: ExitCode) => void;
}): Interruption {
  const { clock, say, exit } = options;
  const controller = new AbortController();
  let code: ExitCode | undefined;
  let pressedMs = 0;
  const handlers = Object.entries(SIGNALS).map(([name, exitCode]) => {
    const handler = (): void => {
      if (code !== undefined) {
        if (clock.monotonicMs() - pressedMs >= SAME_PRESS_MS) exit(exitCode);
        return;
      }
      code = exitCode;
      pressedMs = clock.monotonicMs();
      say(`${name === 'SIGINT' ? 'Ctrl-C' : name}: stopping and undoing what was begun. Once more ends at once.`);
      controller.abort(new LifeboatError('operation.cancelled', `broken off by ${name}`));
    };
    process.on(name, handler);
    return { name, handler };
  });
  return {
    signal: controller.signal,
    exitCode: () => code,
    close: () => handlers.forEach(({ name, handler }) => process.off(name, handler)),
  };
}
